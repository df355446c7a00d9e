package packed

import (
	"io"
	"runtime"
	"sync/atomic"

	"github.com/procmem/procmem/internal/background"
)

// Pool has the threads that compress. Background is safe for concurrent use.
type Pool struct {
	// Background has the threads give way to all else that wants the processor.
	Background atomic.Bool

	threads chan *background.Thread
}

// maxThreads bounds the threads of a Pool, each of which takes 5 MiB.
const maxThreads = 8

// NewPool starts a thread for each processor. Close ends them.
func NewPool() *Pool {
	p := &Pool{threads: make(chan *background.Thread, min(maxThreads, runtime.GOMAXPROCS(0)))}
	for range cap(p.threads) {
		p.threads <- background.New()
	}
	return p
}

// Writer returns a Writer that compresses by the threads of the pool, with head bytes
// left in front.
func (p *Pool) Writer(w io.Writer, head int64) *Writer {
	return NewWriter(w, Options{Workers: cap(p.threads), Head: head, Thread: func(run func()) {
		if !p.Background.Load() {
			run()
			return
		}
		t := <-p.threads
		t.Do(run)
		p.threads <- t
	}})
}

// Close ends the threads. It must not be called before all Writers have ended.
func (p *Pool) Close() {
	for range cap(p.threads) {
		(<-p.threads).Close()
	}
}
