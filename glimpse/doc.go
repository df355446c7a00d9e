// Package glimpse takes what walking the stacks of a live process needs, in a pause of
// milliseconds: the registers of all threads, and the live part of their stacks.
//
// Start with New, and take a Glimpse as often as wanted. Its Image and its Memory are what
// stacks.New asks for. Names and lines come afterwards, while the process goes on.
//
//	t, err := glimpse.New(p, glimpse.Options{})
//	defer t.Close()
//	g, err := t.Take(ctx)
//	w, err := stacks.New(g.Memory, g.Image, stacks.Options{Open: symbols.OfProcess(p.PID(), g.Memory)})
//
// The target goes on whatever ends the caller, SIGKILL included: it is held by ptrace alone
// (PTRACE_SEIZE), and the kernel releases what a dead tracer held. No system call is run in it,
// and no memory is tracked. The target may notice: an interrupted system call such as
// epoll_wait returns EINTR (signal(7)).
//
// Not promised: the stacks of threads that sleep are read up to tens of milliseconds before
// those of threads that work, where there are more than 64 threads. A thread that works may
// write to the stack of another one, though not to its return addresses.
package glimpse

import (
	"errors"
	"os"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
)

// The reasons for a fault of a Glimpse's memory, beside those of procmem.
var (
	// ErrCut reports a part of a stack that is beyond the bound of Options.
	ErrCut = errors.New("the stack is longer than what was copied of it in the pause")
	// ErrNotCopied reports memory that may have changed since the pause.
	ErrNotCopied = errors.New("not copied in the pause")
)

// Options bound what is copied in a pause. The zero Options are valid.
type Options struct {
	// Stack bounds what is copied of one stack, in bytes from the stack pointer upwards. 0 means
	// DefaultStack.
	Stack uint64
	// Total bounds what is copied in all, in bytes. Where it is short, each thread gets a part
	// of what is left. 0 means DefaultTotal.
	Total uint64
	// Also reads what the caller needs beside the stacks. It runs in the pause, once the stacks
	// have been copied. Every microsecond of it is a microsecond of the pause. It may be nil.
	Also func(*Held)
	// AlsoTime bounds the time for which Also can read. 0 means DefaultAlsoTime.
	AlsoTime time.Duration
}

// The defaults of Options.
const (
	DefaultStack    = 256 << 10
	DefaultTotal    = 256 << 20
	DefaultAlsoTime = 10 * time.Millisecond
)

func (o Options) withDefaults() Options {
	if o.Stack == 0 {
		o.Stack = DefaultStack
	}
	if o.Total == 0 {
		o.Total = DefaultTotal
	}
	if o.AlsoTime == 0 {
		o.AlsoTime = DefaultAlsoTime
	}
	return o
}

// Glimpse is one moment of a process: its threads with their general purpose registers, and
// what was copied of its memory.
type Glimpse struct {
	// Image has the mappings as they were just after the pause.
	Image *procmem.Image
	// Memory is what was copied, in front of what does not change: code and read-only data,
	// which are read when they are asked for. All else gives a *procmem.FaultError with ErrCut
	// or ErrNotCopied. It is valid until the next Take or Close.
	Memory procmem.Memory
	Taken  time.Time
	// Pause is for how long no thread could run, and no thread that works longer than that.
	Pause time.Duration
	// Quiet is for how long threads that slept were held, where there are more than 64 threads.
	// It includes the pause.
	Quiet time.Duration
	// Copied is how much was copied, in bytes.
	Copied uint64
}

// Taker takes glimpses of one process. It is not safe for concurrent use; the memory of a
// glimpse is.
type Taker struct {
	p    *process.Process
	o    Options
	view *process.View
	img  procmem.Image     // all but the threads
	maps []procmem.Mapping // as follow has read them last
	// lines is /proc/PID/maps, which a kernel from 6.11 on can be asked about one address.
	lines *os.File
	kept  kept
}

// New prepares for glimpses of p. Close must be called. It needs the rights of a debugger
// (ptrace(2), access mode checking), and fails as snapshot.Take does.
func New(p *process.Process, o Options) (*Taker, error) {
	t := &Taker{p: p, o: o.withDefaults()}
	if err := t.open(); err != nil {
		return nil, err
	}
	return t, nil
}

// Close releases what the Taker holds. The process is not affected.
func (t *Taker) Close() error {
	if t.view == nil {
		return nil
	}
	err := errors.Join(t.view.Close(), t.lines.Close())
	t.view = nil
	return err
}
