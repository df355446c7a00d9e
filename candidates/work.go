package candidates

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
)

// runPages is how much memory is read at once, in pages.
const runPages = 64

// workers is how many goroutines work on candidates.
func workers() int { return max(2, min(4, runtime.GOMAXPROCS(0))) }

// inOrder fills one job after the other by next, until next returns io.EOF. It has several
// goroutines work on them, and hands them to emit in the order in which they came. It fails as
// next, work or emit does, and with the cause of ctx. Jobs are used again. Nothing runs any
// more when it returns.
func inOrder[J any](ctx context.Context, jobs []J, next, work, emit func(J) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type ticket struct {
		job  J
		done chan error
	}
	free := make(chan *ticket, len(jobs))
	for _, j := range jobs {
		free <- &ticket{j, make(chan error, 1)}
	}
	todo := make(chan *ticket)
	order := make(chan *ticket, len(jobs))
	var wg sync.WaitGroup
	for range workers() {
		wg.Go(func() {
			for t := range todo {
				t.done <- work(t.job)
			}
		})
	}
	wg.Go(func() {
		defer close(order)
		defer close(todo)
		for {
			var t *ticket
			select {
			case t = <-free:
			case <-ctx.Done():
				return
			}
			if err := next(t.job); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				cancel(err)
				return
			}
			order <- t
			todo <- t
		}
	})
	for t := range order {
		err := <-t.done
		if err == nil && ctx.Err() == nil {
			err = emit(t.job)
		}
		if err != nil {
			cancel(err)
		}
		free <- t
	}
	wg.Wait()
	return context.Cause(ctx)
}
