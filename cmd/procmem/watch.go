package main

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/term"
)

const (
	// watchEvery is how long memory is left alone after each look at it.
	watchEvery = 100 * time.Millisecond
	// maxWatched is how many values are looked at, at most.
	maxWatched = 1000
)

// spot is a value that is watched.
type spot struct {
	addr procmem.Addr
	now  []byte // what was read last
	err  error  // why that could not be read
	seen bool
}

// watcher shows values as they change.
type watcher struct {
	mem   procmem.Memory
	spots []spot
	out   watchOutput
}

// watchOutput shows values.
type watchOutput interface {
	// change takes a value that is new. was is nil where nothing is known of one before.
	change(i int, s *spot, was []byte, at time.Time) error
	// flush is called after each look at all values.
	flush() error
}

// newWatcher returns a watcher of values in a process. text makes text of a value.
func newWatcher(g *globals, t *opened, spots []spot, text func(b []byte) string) (*watcher, error) {
	if t.Core != nil {
		return nil, usagef("%s is a core, in which nothing changes: --watch is for processes", t.Word)
	}
	p := watchPrinter{places: newPlaces(t.maps, t.symbols), text: text}
	w := &watcher{mem: t.mem, spots: spots}
	switch {
	case g.json:
		w.out = watchJSON{p}
	case term.IsTerminal(os.Stdout):
		w.out = &watchScreen{watchPrinter: p, screen: term.NewScreen(os.Stdout, g.color.Enabled(os.Stdout)), rows: make([]term.Watched, len(spots))}
	default:
		w.out = watchLines{p}
	}
	return w, nil
}

// run watches until the process ends, or nobody reads the output any more. A signal just ends
// procmem.
func (w *watcher) run() error {
	for {
		err := w.look(time.Now())
		if err == nil {
			err = stdoutError(w.out.flush())
		}
		if err == nil {
			err = rest(watchEvery)
		}
		switch {
		case errors.Is(err, procmem.ErrGone):
			notice("the process has ended, or executes another program")
			return nil
		case err != nil:
			return err
		}
	}
}

// look reads all values once.
func (w *watcher) look(at time.Time) error {
	buf := make([]byte, hexWatched)
	for i := range w.spots {
		s := &w.spots[i]
		now := buf[:len(s.now)]
		_, err := w.mem.ReadAt(now, s.addr)
		if errors.Is(err, procmem.ErrGone) {
			return procmem.ErrGone
		}
		if s.seen && (err == nil) == (s.err == nil) && (err != nil || string(now) == string(s.now)) {
			continue
		}
		was := s.now
		if !s.seen || s.err != nil {
			was = nil
		}
		s.now, s.err, s.seen = append([]byte(nil), now...), err, true
		if err := w.out.change(i, s, was, at); err != nil {
			return stdoutError(err)
		}
	}
	return nil
}

// rest waits, and fails as soon as nobody reads stdout.
func rest(d time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(os.Stdout.Fd())}}
	until := time.Now().Add(d)
	for left := d; left > 0; left = time.Until(until) {
		_, err := unix.Poll(fds, int(left.Milliseconds())+1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
			return errReaderGone
		}
	}
	return nil
}
