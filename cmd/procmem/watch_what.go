package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/candidates"
	"github.com/procmem/procmem/search"
)

// hexWatched is how many bytes are one value where no type is given, and the most that one has.
const hexWatched = 16

// checkWatch fills in the default format of watching, and refuses what has no values.
func (r *reader) checkWatch() error {
	if r.follow {
		return usagef("--watch and --follow do not go together")
	}
	if r.format == "" {
		r.format = "hex"
	}
	if _, err := search.ParseType(r.format); err != nil && r.format != "hex" {
		return usagef("--format %q: --watch wants hex, %s", r.format, strings.Join(search.TypeNames(), ", "))
	}
	return nil
}

// watch shows the memory of ranges as it changes.
func (r *reader) watch(g *globals, t *opened, ranges []procmem.Range) error {
	step, text := hexWatched, func(b []byte) string { return fmt.Sprintf("% x  %s", b, dotted(b)) }
	if typ, err := search.ParseType(r.format); err == nil {
		step = typ.Size(wordSize(t.Target))
		text = func(b []byte) string { return formatValue(typ, b, false) }
	}
	var spots []spot
	all := uint64(0)
	for _, x := range ranges {
		n := x.Size() / uint64(step)
		last := int(x.Size() % uint64(step)) // bytes
		if r.format != "hex" {
			last = 0
		}
		all += n + uint64(min(last, 1))
		for i := uint64(0); i < n && len(spots) < maxWatched; i++ {
			spots = append(spots, spot{addr: x.Start + procmem.Addr(i)*procmem.Addr(step), now: make([]byte, step)})
		}
		if last > 0 && len(spots) < maxWatched {
			spots = append(spots, spot{addr: x.End - procmem.Addr(last), now: make([]byte, last)})
		}
	}
	if all == 0 {
		return usagef("no %s fits into that: give a longer RANGE", r.format)
	}
	return startWatching(g, t, spots, all, "values", text)
}

// dotted returns bytes as text, with a dot for each that is none.
func dotted(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		if out[i] = c; c < ' ' || c > '~' {
			out[i] = '.'
		}
	}
	return string(out)
}

// watchCandidates shows the candidates that a narrowing keeps, as they change.
func (o *searchFlags) watchCandidates(ctx context.Context, g *globals, s *searched, from *candidates.Reader, n candidates.Narrowing) error {
	info := from.Info()
	most := maxWatched
	if o.most > 0 {
		most = min(most, o.most)
	}
	var spots []spot
	n.Each = func(c candidates.Candidate) bool {
		spots = append(spots, spot{addr: c.Addr, now: make([]byte, len(c.Now))})
		return len(spots) < most
	}
	found, err := candidates.Narrow(ctx, s.mem, from, n)
	if err != nil {
		return o.narrowError(s, err)
	}
	tellNarrowed(found)
	if len(spots) == 0 {
		return statusError(exitNothing)
	}
	err = startWatching(g, s.opened, spots, found.Kept-found.Swapped, "candidates", func(b []byte) string { return formatValue(info.Type, b, info.BigEndian) })
	return s.wrap(err)
}

// startWatching watches spots, which may be the first of more.
func startWatching(g *globals, t *opened, spots []spot, all uint64, what string, text func(b []byte) string) error {
	w, err := newWatcher(g, t, spots, text)
	if err != nil {
		return err
	}
	if n := len(spots); uint64(n) < all {
		notice("the first %s of %s %s are watched", strconv.Itoa(n), number(all), what)
	}
	return w.run()
}
