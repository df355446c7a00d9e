package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/procmem/procmem/internal/term"
)

// progress shows on stderr how far some work is: all the time on a terminal, and in one line
// for each SIGUSR1. The work must not wait for a stopped terminal, or for a pipe without a
// reader, because a process may be held meanwhile. So one goroutine alone writes, and holds no
// lock then.
type progress struct {
	what string // the thing that is worked on
	out  io.Writer

	mu  sync.Mutex
	now moment

	lines         chan string // to be printed
	stop, stopped chan struct{}
}

// showAfter is how long work must last for a bar to appear.
const showAfter = 300 * time.Millisecond

func startProgress(what string) *progress {
	p := &progress{what: what, out: os.Stderr, lines: make(chan string), stop: make(chan struct{}), stopped: make(chan struct{})}
	p.enter("starting")
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go p.run(signals, term.IsTerminal(os.Stderr))
	return p
}

// enter begins a phase. It returns at once.
func (p *progress) enter(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.phase = phase
}

// count sets what moves from now on. It returns at once.
func (p *progress) count(done func() int64, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.done, p.now.total, p.now.since = done, total, time.Now()
}

// notice is the function notice, while there may be a bar.
func (p *progress) notice(format string, args ...any) {
	select {
	case p.lines <- fmt.Sprintf(format, args...):
	case <-p.stopped:
		notice(format, args...)
	}
}

// unpacking is count for a file that is unpacked before all other work.
func (p *progress) unpacking(done func() int64, total int64) {
	p.enter("unpacking")
	p.count(done, total)
}

func (p *progress) look() moment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// end takes the bar away. It may be called again.
func (p *progress) end() {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	<-p.stopped
}

func (p *progress) run(signals chan os.Signal, terminal bool) {
	defer close(p.stopped)
	defer signal.Ignore(syscall.SIGUSR1) // as before
	began := time.Now()
	b := &bar{out: p.out}
	var ticks <-chan time.Time
	if terminal {
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		ticks = t.C
	}
	for {
		select {
		case <-signals:
			b.clear()
			term.Fprintf(p.out, "procmem: %s: %v\n", p.what, p.look())
		case line := <-p.lines:
			b.clear()
			term.Fprintf(p.out, "procmem: %s\n", line)
		case <-ticks:
			b.on = b.on || time.Since(began) > showAfter
			b.draw(p.look())
		case <-p.stop:
			b.clear()
			return
		}
	}
}

// bar is what is drawn on a terminal.
type bar struct {
	out io.Writer
	on  bool // otherwise nothing is written

	column int // of the cursor
}

// Write passes on what is drawn, as far as the terminal has columns for it. A line that goes on
// in the next row could not be taken away.
func (b *bar) Write(p []byte) (int, error) {
	if !b.on {
		return len(p), nil
	}
	f, _ := b.out.(*os.File)
	width := columnsOf(f)
	if width == 0 {
		return b.out.Write(p)
	}
	var fits []rune
	for _, r := range string(p) {
		switch b.column++; {
		case r == '\r':
			b.column = 0
		case r == '\x1b':
			b.column = -2 // the rest of clearLine takes no room either
		case b.column >= width:
			continue
		}
		fits = append(fits, r)
	}
	_, err := b.out.Write([]byte(string(fits)))
	return len(p), err
}

// clearLine goes to the start of a line and clears it.
const clearLine = "\r\x1b[K"

func (b *bar) clear() { fmt.Fprint(b, clearLine) }

// draw brings the line up to date.
func (b *bar) draw(m moment) {
	const unlimited = 1 << 10
	f, _ := b.out.(*os.File)
	width := columnsOf(f)
	if width == 0 {
		width = unlimited
	}
	fmt.Fprint(b, clearLine, m.line(width-1)) // a full row could wrap
}
