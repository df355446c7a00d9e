package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/procmem/procmem/internal/term"
)

// progress shows on stderr how far a work is: all the time on a terminal, and
// in a line for each SIGUSR1 otherwise.
type progress struct {
	what  string // is worked on
	began time.Time

	mu    sync.Mutex
	phase string
	since time.Time    // of the phase
	done  func() int64 // bytes so far; nil where none move
	total int64        // about; 0 is not known
	bar   *progressbar.ProgressBar
	out   silent

	stop, stopped chan struct{}
}

// showAfter is how long a work takes at least for which there is a bar.
const showAfter = 300 * time.Millisecond

func startProgress(what string) *progress {
	p := &progress{what: what, began: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	p.enter("planning")
	p.newBar()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go p.run(signals, term.IsTerminal(os.Stderr))
	return p
}

// enter begins a phase.
func (p *progress) enter(phase string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.since = phase, time.Now()
}

// count tells what moves from now on.
func (p *progress) count(done func() int64, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.total, p.since = done, total, time.Now()
	p.newBar()
}

// newBar makes a bar that counts from now on, and draws nothing yet.
func (p *progress) newBar() {
	drawn := p.out.on
	fmt.Fprint(&p.out, clearLine)
	p.out.on = false
	p.bar = progressbar.NewOptions64(max(p.total, 1), progressbar.OptionSetWriter(&p.out),
		progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(20), progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(false))
	_ = p.bar.Set64(1) // its clock begins with the first step
	p.out.on = drawn
}

// silent is stderr once it is on.
type silent struct{ on bool }

func (s *silent) Write(p []byte) (int, error) {
	if !s.on {
		return len(p), nil
	}
	return os.Stderr.Write(p)
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
	defer signal.Stop(signals)
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-signals:
			p.clear()
			fmt.Fprintln(os.Stderr, "procmem:", p.line())
		case <-ticks.C:
			if terminal && time.Since(p.began) > showAfter {
				p.draw()
			}
		case <-p.stop:
			p.clear()
			return
		}
	}
}

// clear takes the bar off the terminal, until it is drawn again.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprint(&p.out, clearLine)
}

// clearLine goes to the start of a line and takes away what is there.
const clearLine = "\r\x1b[K"

// draw brings the bar up to date.
func (p *progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.on = true
	n := p.moved()
	if n <= p.total/100 { // nothing to tell the time left by
		fmt.Fprint(&p.out, clearLine, p.phase)
		return
	}
	p.bar.Describe(p.phase)
	_ = p.bar.Set64(min(n, p.bar.GetMax64()-1)) // at the end it would be taken away
}

// moved is how many bytes there are so far.
func (p *progress) moved() int64 {
	if p.done == nil {
		return 0
	}
	return p.done()
}

// line is the same in words.
func (p *progress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.what + ": " + p.phase
	if p.done == nil {
		return text
	}
	n := p.moved()
	text += ", " + term.Size(uint64(n))
	if p.total > 0 {
		text += " of " + term.Size(uint64(p.total))
	}
	speed := float64(n) / time.Since(p.since).Seconds()
	text += ", " + term.Size(uint64(speed)) + "/s"
	if left := p.total - n; left > 0 && speed > 0 {
		text += ", " + (time.Duration(float64(left)/speed) * time.Second).String() + " left"
	}
	return text
}
