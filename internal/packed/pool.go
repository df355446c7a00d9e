package packed

import (
	"io"
	"runtime"
	"sync/atomic"

	"github.com/procmem/procmem/internal/background"
)

// Pool has the threads that compress. Writer and Background are safe for concurrent use.
type Pool struct {
	// Background has the threads give way to all other work of the processors.
	Background atomic.Bool

	threads chan *background.Thread
}

// maxThreads bounds the threads of a Pool. Each takes 5 MiB.
const maxThreads = 8

// NewPool returns a pool with a thread for each processor, up to maxThreads. Close must be
// called.
func NewPool() *Pool {
	p := &Pool{threads: make(chan *background.Thread, min(maxThreads, runtime.GOMAXPROCS(0)))}
	for range cap(p.threads) {
		p.threads <- background.New()
	}
	return p
}

// Writer returns a Writer that compresses on the threads of the pool. It leaves head bytes at
// the front of the plain data.
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
