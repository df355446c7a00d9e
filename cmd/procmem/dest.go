package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/upload"
)

// notice prints what one should know while the work goes on. It makes names harmless, which may
// contain anything.
func notice(format string, args ...any) {
	term.Fprintf(os.Stderr, "procmem: %s\n", fmt.Sprintf(format, args...))
}

// compressFlag is the value of --compress.
type compressFlag string

func (c *compressFlag) String() string { return string(*c) }
func (c *compressFlag) Type() string   { return "zstd" }

func (c *compressFlag) Set(s string) error {
	if s != "zstd" {
		return errors.New("want zstd")
	}
	*c = compressFlag(s)
	return nil
}

// suffix returns the usual end of a file name.
func (c compressFlag) suffix() string {
	if c != "" {
		return ".zst"
	}
	return ""
}

// destination is where a stream goes: stdout, a file, or an object in a store. commit or abort
// ends it. After commit, abort does nothing.
type destination struct {
	io.Writer
	name   string // "" for stdout
	commit func() error
	abort  func()
}

// checkURL refuses a name that looks like a URL but is none that is understood.
func checkURL(name string) error {
	if scheme, _, ok := strings.Cut(name, "://"); ok && !upload.IsURL(name) && !strings.Contains(scheme, "/") {
		return usagef("%s: of URLs, only s3://BUCKET/NAME is understood (a file of such a name is ./%s)", name, name)
	}
	return nil
}

// checkStdout returns an error where stdout is closed. The Go runtime has then opened /dev/null
// in its place, for reading, too. A redirection of stdout to /dev/null for both cannot be told
// from that, and keeps nothing either.
func checkStdout() error {
	var null, st unix.Stat_t
	flags, err := unix.FcntlInt(1, unix.F_GETFL, 0)
	if err == nil && flags&unix.O_ACCMODE == unix.O_RDWR && unix.Fstat(1, &st) == nil &&
		unix.Stat(os.DevNull, &null) == nil && st.Rdev == null.Rdev && st.Mode&unix.S_IFMT == unix.S_IFCHR {
		return errors.New("stdout is closed, or is /dev/null opened for reading too: nothing would be kept")
	}
	return nil
}

// openDestination begins the destination called name. "-" is stdout. size is about how many
// bytes will be written.
func openDestination(ctx context.Context, name string, size uint64, force bool) (*destination, error) {
	nothing := func() error { return nil }
	switch {
	case name == "-":
		if err := checkStdout(); err != nil {
			return nil, err
		}
		out := newUntilDone(ctx, os.Stdout)
		return &destination{out, "", nothing, out.Close}, nil
	case upload.IsURL(name):
		o, err := upload.Create(ctx, name, upload.Options{Size: int64(size), Force: force, Notice: notice})
		if err != nil {
			return nil, err
		}
		d := &destination{Writer: o, name: name}
		ended := false
		d.commit = func() error {
			ended = true
			return o.Commit()
		}
		d.abort = func() {
			if !ended {
				bounded.Add(1)
				defer bounded.Add(-1)
				if err := o.Abort(); err != nil {
					notice("%v", err)
				}
			}
		}
		return d, nil
	}
	f, err := sink.Create(name, force)
	if err != nil {
		return nil, unforced(err)
	}
	s := sink.NewStream(f)
	return &destination{s, name, func() error {
		if err := s.Flush(); err != nil {
			return err
		}
		return f.Commit()
	}, f.Abort}, nil
}

// noRoom adds a remedy to an error of too little room for a file.
func noRoom(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("%w: choose another place with -o, or a stream with -o -", err)
	case errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w: raise the limit on file sizes with ulimit -f, or choose a stream with -o -", err)
	}
	return err
}

// lateDestination is a destination that is opened once its size is known. It is a
// capture.Expecter.
type lateDestination struct {
	ctx   context.Context
	name  string
	force bool
	path  string // "" for stdout
	dest  *destination
}

func (d *lateDestination) Expect(size uint64) (err error) {
	if d.dest, err = openDestination(d.ctx, d.name, size, d.force); err == nil {
		d.path = d.dest.name
	}
	return err
}

func (d *lateDestination) Write(p []byte) (int, error) { return d.dest.Write(p) }

func (d *lateDestination) commit() error { return d.dest.commit() }

func (d *lateDestination) abort() {
	if d.dest != nil {
		d.dest.abort()
	}
}
