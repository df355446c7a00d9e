package symbols

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/debugfile"
	"github.com/procmem/procmem/internal/regular"
)

// errNoDebugFile reports that none is at hand.
var errNoDebugFile = errors.New("no debug file is at hand")

// debugFile finds the debug file of the program at a path: on this machine, then as the process
// sees it, then on servers.
func (l *Lines) debugFile(ctx context.Context, wanted debugfile.Wanted, program string) (*file, error) {
	var at []string
	if path := wanted.ByBuildID(); path != "" {
		at = append(at, path)
		if f, err := checked(wanted, func() (*file, error) { return openInTime(path) }); err == nil {
			return f, nil
		}
	}
	at = append(at, wanted.ByLink(program)...)
	for _, path := range at {
		open := func() (*file, error) { return openInTime(path) }
		if pid := l.debug.PID; pid != 0 {
			open = func() (*file, error) {
				return openWithin(path, func() (*file, error) { return openBelowRoot(pid, path) })
			}
		}
		if f, err := checked(wanted, open); err == nil {
			return f, nil
		}
	}
	return l.served(ctx, wanted)
}

// altFile finds the file that several debug files have in common.
func (l *Lines) altFile(ctx context.Context, wanted debugfile.Wanted, at string) (*file, error) {
	for _, path := range []string{wanted.ByBuildID(), at} {
		if path == "" {
			continue
		}
		if f, err := checked(wanted, func() (*file, error) { return openInTime(path) }); err == nil {
			return f, nil
		}
		if pid := l.debug.PID; pid != 0 {
			if f, err := checked(wanted, func() (*file, error) {
				return openWithin(path, func() (*file, error) { return openBelowRoot(pid, path) })
			}); err == nil {
				return f, nil
			}
		}
	}
	return l.served(ctx, wanted)
}

// served asks the servers, if there are any.
func (l *Lines) served(ctx context.Context, wanted debugfile.Wanted) (*file, error) {
	if len(l.debug.Servers) == 0 || wanted.BuildID == nil {
		return nil, errNoDebugFile
	}
	return checked(wanted, func() (*file, error) { return newFile(l.servers.Open(ctx, wanted.BuildID)) })
}

// checked opens a file, if it is the one.
func checked(wanted debugfile.Wanted, open func() (*file, error)) (*file, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	if err := wanted.Check(f, f.Size()); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return f, nil
}

// openInTime opens a regular file. The name may be one of a server that does not answer.
func openInTime(path string) (*file, error) {
	return openWithin(path, func() (*file, error) { return newFile(regular.Open(unix.AT_FDCWD, path)) })
}

// openPatience is how long a file may take to be opened.
const openPatience = 2 * time.Second

func openWithin(path string, open func() (*file, error)) (*file, error) {
	type result struct {
		f   *file
		err error
	}
	done := make(chan result, 1)
	go func() {
		f, err := open()
		done <- result{f, err}
	}()
	select {
	case r := <-done:
		return r.f, r.err
	case <-time.After(openPatience):
		go func() { // it may still be opened
			if r := <-done; r.err == nil {
				r.f.Close()
			}
		}()
		return nil, fmt.Errorf("open %s: no answer in %v", path, openPatience)
	}
}
