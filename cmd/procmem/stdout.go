package main

import (
	"context"
	"io"
)

// untilDone is a Writer that gives up when its context ends. A write to w may last as long as
// the other end of a pipe is not read. A held target must not wait for that. After an error, p
// may still be read.
type untilDone struct {
	ctx  context.Context
	work chan []byte
	done chan written
}

// written is the result of one write.
type written struct {
	n   int
	err error
}

func newUntilDone(ctx context.Context, w io.Writer) *untilDone {
	u := &untilDone{ctx, make(chan []byte), make(chan written, 1)}
	go func() {
		for p := range u.work {
			n, err := w.Write(p)
			u.done <- written{n, err}
		}
	}()
	return u
}

func (u *untilDone) Write(p []byte) (int, error) {
	select {
	case u.work <- p:
	case <-u.ctx.Done():
		return 0, context.Cause(u.ctx)
	}
	select {
	case r := <-u.done:
		return r.n, r.err
	case <-u.ctx.Done():
		return 0, context.Cause(u.ctx)
	}
}

// Close must be called last, and leaves w open.
func (u *untilDone) Close() { close(u.work) }
