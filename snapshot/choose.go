package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/procmem/procmem"
)

// defaultPause is the pause that MethodAuto strives for without a bound. MethodAuto takes a
// longer pause only if there is nothing better.
const defaultPause = 20 * time.Millisecond

// tornCost is how much longer a pause may be, without a bound, for all memory to be of one
// moment.
const tornCost = 200 * time.Millisecond

// RefusedError reports that no method, or not the named one, keeps the pause within the bound.
// Take returns a *RefusedError. Nothing was stopped, or, if Tried is not nil, not for longer
// than the bound.
type RefusedError struct {
	Method    Method        // the method that was named, or MethodAuto for any
	Bound     time.Duration // of the pause; zero: none
	Estimates []Estimate    // of all methods
	Tried     error         // why the method that was expected to meet the bound failed; nil: none was tried
}

func (e *RefusedError) Error() string {
	who := "no method is"
	if e.Method != MethodAuto {
		who = fmt.Sprintf("method %s is not", e.Method)
	}
	text := fmt.Sprintf("%s expected to hold the process for %v at most: %s", who, e.Bound, list(e.Estimates))
	if e.Tried != nil {
		return text + "; tried " + e.Tried.Error()
	}
	return text + " (nothing was stopped)"
}

func (e *RefusedError) Unwrap() error { return e.Tried }

// choose takes a moment by the method that meets the bound at the least cost. If the options
// name a method, it is that one or none.
func (t *taking) choose(ctx context.Context) (*Snapshot, error) {
	f := t.ready
	if err := f.plan(); err != nil {
		return nil, err
	}
	x, err := f.measure()
	if err != nil {
		return nil, err
	}
	c := chooser{taking: t, x: &x, all: f.estimates(&x)}
	if t.store == nil {
		c.of(MethodPrecopy).Err = errNoStore
	}
	return c.take(ctx)
}

// chooser goes from one method to the next.
type chooser struct {
	*taking
	x     *footprint
	all   []Estimate // of precopy, fork and stop, in any order
	tried error
}

// of returns the estimate of one method.
func (c *chooser) of(m Method) *Estimate {
	return &c.all[slices.IndexFunc(c.all, func(e Estimate) bool { return e.Method == m })]
}

// take tries the methods in the order of their cost. Those that are expected to meet the bound
// come first.
func (c *chooser) take(ctx context.Context) (*Snapshot, error) {
	for _, e := range c.order() {
		s, err := c.try(ctx, e)
		if err == nil {
			if c.o.Method == MethodAuto {
				s.Why = c.why(e)
			}
			return s, nil
		}
		if !c.goesOn(ctx, err) {
			return nil, err
		}
		if err = fmt.Errorf("%s: %w", e.Method, err); c.tried != nil {
			err = fmt.Errorf("%w; %w", c.tried, err)
		}
		c.tried = err
	}
	return nil, &RefusedError{Method: c.o.Method, Bound: c.o.MaxPause, Estimates: c.all, Tried: c.tried}
}

// order returns the methods to try.
func (c *chooser) order() (out []Estimate) {
	precopy, fork, stop := *c.of(MethodPrecopy), *c.of(MethodFork), *c.of(MethodStop)
	ranked := []Estimate{precopy, fork, stop}
	if c.x.HugePages*hugePageBytes > c.x.wanted/2 && fork.Pause <= defaultPause {
		ranked = []Estimate{fork, precopy, stop}
	}
	if c.x.stopped != "" || c.x.wanted <= littleMemory {
		ranked = []Estimate{stop, precopy, fork}
	}
	if m := c.o.Method; m != MethodAuto {
		ranked = slices.DeleteFunc(ranked, func(e Estimate) bool { return e.Method != m })
	}
	bound := c.o.MaxPause
	if bound == 0 {
		bound = defaultPause
	}
	var rest []Estimate
	for _, e := range ranked {
		meets := e.Pause <= bound || c.x.stopped != "" && e.Method == MethodStop
		switch {
		case e.Err != nil:
		case meets && e.Torn == 0:
			out = append(out, e)
		case meets || c.o.MaxPause == 0:
			rest = append(rest, e)
		}
	}
	if c.o.MaxPause == 0 {
		slices.SortStableFunc(rest, func(a, b Estimate) int { return cmp.Compare(a.cost(), b.cost()) })
	}
	return append(out, rest...)
}

// cost orders the methods that do not meet the bound.
func (e *Estimate) cost() time.Duration {
	if e.Torn > 0 {
		return e.Pause + tornCost
	}
	return e.Pause
}

// try takes a moment by one method, within the bound.
func (c *chooser) try(ctx context.Context, e Estimate) (*Snapshot, error) {
	bound := c.o.MaxPause
	if fork := c.of(MethodFork); e.Method == MethodPrecopy && bound == 0 && fork.Err == nil {
		// A fork is better than a pause that is much longer. But it goes on costing the process
		// something afterwards.
		bound = max(defaultPause, 2*fork.Pause)
		if e.Torn < fork.Torn {
			bound = max(bound, tornCost)
		}
	}
	return c.by(ctx, e.Method, bound)
}

// goesOn reports whether another method may succeed where one has failed.
func (c *chooser) goesOn(ctx context.Context, err error) bool {
	return ctx.Err() == nil && c.p.Exists() && !errors.Is(err, procmem.ErrGone)
}

// why says what was expected of each method.
func (c *chooser) why(e Estimate) string {
	text := "expected to hold the process for: " + list(c.all)
	if c.x.stopped != "" {
		text = c.x.stopped
	}
	if c.tried != nil {
		text += "; tried before: " + c.tried.Error()
	}
	return text
}
