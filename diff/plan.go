package diff

import (
	"errors"
	"iter"
	"math"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pipe"
)

// mergeGap is how far apart areas may be that are asked about at once. Each question where data
// is has a price, and so has the memory between.
const mergeGap = 16 << 20

// cursor walks along ranges that ascend.
type cursor struct {
	next func() (procmem.Range, error, bool)
	stop func()
	cur  procmem.Range
	err  error
}

func newCursor(ranges iter.Seq2[procmem.Range, error]) *cursor {
	c := &cursor{}
	c.next, c.stop = iter.Pull2(ranges)
	return c
}

// at reports whether an address, which is not below the last one, is in a range, and up to
// where that is so.
func (c *cursor) at(a procmem.Addr) (in bool, until procmem.Addr) {
	for c.cur.End <= a && c.err == nil {
		r, err, ok := c.next()
		if !ok || err != nil {
			r = procmem.Range{Start: math.MaxUint64, End: math.MaxUint64}
			c.err = err
		}
		c.cur = r
		if !ok {
			break
		}
	}
	if c.cur.Start <= a {
		return true, c.cur.End
	}
	return false, c.cur.Start
}

// side is one of the two memories, and what it tells of itself.
type side struct {
	name     Side
	mem      procmem.Memory
	data     *cursor // where it may hold anything but zeros
	resident *cursor // where of that it is in memory; nil if it does not tell, or is not asked
}

func newSide(name Side, mem procmem.Memory, r procmem.Range, swapped bool) *side {
	s := &side{name: name, mem: mem}
	data := func(yield func(procmem.Range, error) bool) { yield(r, nil) }
	if m, ok := mem.(procmem.Sparse); ok {
		data = m.Data(r)
	}
	s.data = newCursor(data)
	if m, ok := mem.(procmem.Resident); ok && !swapped {
		s.resident = newCursor(m.Resident(r))
	}
	return s
}

func (s *side) close() {
	s.data.stop()
	if s.resident != nil {
		s.resident.stop()
	}
}

// err returns why the memory cannot tell what it holds, if that is so.
func (s *side) err() error {
	err := s.data.err
	if err == nil && s.resident != nil {
		err = s.resident.err
	}
	if err == nil {
		return nil
	}
	return &Error{s.name, err}
}

// at tells of an address whether there may be data, whether that is swapped out, and up to
// where both are so.
func (s *side) at(a procmem.Addr) (data, swapped bool, until procmem.Addr) {
	data, until = s.data.at(a)
	if s.resident != nil {
		in, end := s.resident.at(a)
		swapped = data && !in
		until = min(until, end)
	}
	return data, swapped, until
}

// probeFrom is the size from which it is worthwhile to ask for the first byte of what may be
// data. A core may promise any amount, and hold none.
const probeFrom = pipe.BlockSize

// look returns how far memory from the start of r on is alike: missing, where there is an
// error, or worth reading. If there is no data it looks at the last byte too, for zeros may be
// followed by what a core lacks.
func (s *side) look(r procmem.Range, data bool) (end procmem.Addr, err error) {
	if data && r.Size() <= probeFrom {
		return r.End, nil
	}
	until, err := s.probe(r.Start)
	switch {
	case err != nil && until > r.Start:
		return min(until, r.End), err
	case err != nil && !data:
		return r.End, err
	case data:
		return r.End, nil
	}
	if _, err := s.probe(r.End - 1); err == nil {
		return r.End, nil
	}
	good, bad := r.Start, r.End-1
	for bad-good > 1 {
		mid := good + (bad-good)/2
		if _, err := s.probe(mid); err == nil {
			good = mid
		} else {
			bad = mid
		}
	}
	return bad, nil
}

// probe reads one byte. If it cannot, it returns up to where that is so, as far as that is
// known.
func (s *side) probe(a procmem.Addr) (until procmem.Addr, err error) {
	var b [1]byte
	if _, err = s.mem.ReadAt(b[:], a); err == nil {
		return 0, nil
	}
	if f, ok := errors.AsType[*procmem.FaultError](err); ok {
		until = f.Until
	}
	return until, procmem.Cause(err)
}

// planner finds out what has to be read.
type planner struct {
	a, b    procmem.Memory
	maps    [2][]procmem.Mapping // of these
	areas   []area
	swapped bool // is to be read too

	err      error    // why the plan ended
	absent   []uint64 // bytes of each area that are known to be zeros in both
	missing  missingList
	swapSize uint64

	yield func(pipe.Extent) bool
	last  procmem.Range // that is to be yielded
	ended bool          // no more is wanted
}

// extents yields what is to be read of both memories.
func (p *planner) extents(yield func(pipe.Extent) bool) {
	p.yield = yield
	for from := 0; from < len(p.areas) && !p.ended && p.err == nil; {
		to := from + 1
		for to < len(p.areas) && p.areas[to].Start-p.areas[to-1].End <= mergeGap {
			to++
		}
		p.group(from, to)
		from = to
	}
	p.flush()
}

// group plans areas that are mergeGap to each other.
func (p *planner) group(from, to int) {
	whole := procmem.Range{Start: p.areas[from].Start, End: p.areas[to-1].End}
	a, b := newSide(A, p.a, whole, p.swapped), newSide(B, p.b, whole, p.swapped)
	defer a.close()
	defer b.close()
	for i := from; i < to; i++ {
		x := p.areas[i]
		for at := x.Start; at < x.End && !p.ended; {
			dataA, swappedA, untilA := a.at(at)
			dataB, swappedB, untilB := b.at(at)
			if p.err = a.err(); p.err == nil {
				p.err = b.err()
			}
			if p.err != nil {
				return
			}
			piece := procmem.Range{Start: at, End: min(x.End, untilA, untilB)}
			if swappedA || swappedB {
				p.swapSize += piece.Size()
			} else if p.piece(i, piece, a, b, dataA, dataB); p.err != nil {
				return
			}
			at = piece.End
		}
	}
}

// piece plans a piece of area i in which either memory is alike.
func (p *planner) piece(i int, r procmem.Range, a, b *side, dataA, dataB bool) {
	for !r.Empty() && !p.ended {
		end, errA := a.look(r, dataA)
		end, errB := b.look(procmem.Range{Start: r.Start, End: end}, dataB)
		sub := procmem.Range{Start: r.Start, End: end}
		switch {
		case errors.Is(errA, procmem.ErrGone):
			p.err = &Error{A, errA}
			return
		case errors.Is(errB, procmem.ErrGone):
			p.err = &Error{B, errB}
			return
		case p.guards(sub.Start, errA, dataB) || p.guards(sub.Start, errB, dataA):
		case errA != nil:
			p.missing.add(Missing{procmem.Fault{Range: sub, Err: errA}, A})
		case errB != nil:
			p.missing.add(Missing{procmem.Fault{Range: sub, Err: errB}, B})
		case !dataA && !dataB:
			p.absent[i] += sub.Size()
		default:
			p.extent(sub)
		}
		r.Start = end
	}
}

// guards reports whether what one memory lacks at a has only guarded other memory, such as that
// after the stack of a thread. It may not be used, before and after, and the other memory has
// nothing there.
func (p *planner) guards(a procmem.Addr, err error, data bool) bool {
	if !errors.Is(err, procmem.ErrNotDumped) || data {
		return false
	}
	for _, ms := range p.maps {
		i := procmem.FindMapping(ms, a)
		if i == len(ms) || !ms[i].Contains(a) || ms[i].Perm&(procmem.PermRead|procmem.PermWrite|procmem.PermExec) != 0 {
			return false
		}
	}
	return true
}

// extent adds to what is to be read.
func (p *planner) extent(r procmem.Range) {
	if p.last.End == r.Start && !p.last.Empty() {
		p.last.End = r.End
		return
	}
	p.flush()
	p.last = r
}

func (p *planner) flush() {
	if !p.last.Empty() && !p.ended {
		p.ended = !p.yield(pipe.Extent{Range: p.last})
	}
	p.last = procmem.Range{}
}
