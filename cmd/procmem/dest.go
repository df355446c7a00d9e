package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/procmem/procmem/internal/background"
	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/upload"
)

// notice prints what one should know while it goes on.
func notice(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "procmem: "+format+"\n", args...)
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

// suffix is what the name of a file ends with.
func (c compressFlag) suffix() string {
	if c != "" {
		return ".zst"
	}
	return ""
}

// destination is where a stream goes: stdout, a file, or an object in a store.
// commit or abort ends it; after commit abort does nothing.
type destination struct {
	io.Writer
	name   string // "" for stdout
	commit func() error
	abort  func()
}

// openDestination begins the destination called name, which is - for stdout.
// size is about what will be written.
func openDestination(ctx context.Context, name string, size uint64, force bool) (*destination, error) {
	nothing := func() error { return nil }
	switch {
	case name == "-":
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
				if err := o.Abort(); err != nil {
					notice("%v", err)
				}
			}
		}
		return d, nil
	}
	f, err := sink.Create(name, force)
	if err != nil {
		return nil, err
	}
	s := sink.NewStream(f)
	return &destination{s, name, func() error {
		if err := s.Flush(); err != nil {
			return err
		}
		return f.Commit()
	}, f.Abort}, nil
}

// place makes the name of where it is absolute.
func (d *destination) place() string {
	if d.name == "" || upload.IsURL(d.name) {
		return d.name
	}
	if abs, err := filepath.Abs(d.name); err == nil {
		return abs
	}
	return d.name
}

// pack compresses what is written to w. In the background it gives way to all
// else that wants the processor. done must be called in the end, and before
// Close it is an end as well.
func pack(w io.Writer, inBackground bool) (z *packed.Writer, done func()) {
	// Who waits for a disk in a system call keeps a processor of the Go
	// scheduler to itself for milliseconds, and a reader and a writer do. At
	// other times more of them would get in the way of the process.
	n := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(n + 2)
	o := packed.Options{Workers: min(8, n)} // each takes 6 MiB
	restore := func() { runtime.GOMAXPROCS(n) }
	if !inBackground {
		z = packed.NewWriter(w, o)
		return z, func() {
			z.Abort()
			restore()
		}
	}
	threads := make(chan *background.Thread, o.Workers)
	for range o.Workers {
		threads <- background.New()
	}
	o.Thread = func(run func()) {
		t := <-threads
		t.Do(run)
		threads <- t
	}
	z = packed.NewWriter(w, o)
	return z, func() {
		z.Abort()
		for range o.Workers {
			(<-threads).Close()
		}
		restore()
	}
}
