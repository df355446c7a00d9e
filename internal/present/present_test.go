package present

import (
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/procmem/procmem"
)

func rng(start, end procmem.Addr) procmem.Range { return procmem.Range{Start: start, End: end} }

// mapped is memory that tells its mappings alone.
type mapped struct {
	maps []procmem.Mapping
	err  error
}

func (m *mapped) Mappings() ([]procmem.Mapping, error)   { return m.maps, m.err }
func (*mapped) ReadAt([]byte, procmem.Addr) (int, error) { panic("memory is read") }

func within(r procmem.Range, all []procmem.Range) (n []procmem.Range) {
	for _, x := range all {
		if x = x.Intersect(r); !x.Empty() {
			n = append(n, x)
		}
	}
	return n
}

// sparse knows what it holds, and what of that is in memory.
type sparse struct {
	mapped
	data, resident []procmem.Range
	failed         error // after all
}

func (m *sparse) yield(all []procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for _, x := range all {
			if !yield(x, nil) {
				return
			}
		}
		if m.failed != nil {
			yield(procmem.Range{}, m.failed)
		}
	}
}

func (m *sparse) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return m.yield(within(r, m.data))
}

func (m *sparse) Resident(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return m.yield(within(r, m.resident))
}

// What is there is yielded once, and what is swapped out is counted or yielded.
func TestPlan(t *testing.T) {
	usage := func(swap uint64) []procmem.Mapping {
		return []procmem.Mapping{{Range: rng(0x1000, 0x9000), Usage: &procmem.Usage{Swap: swap}}}
	}
	maps := []procmem.Mapping{{Range: rng(0x1000, 0x3000)}, {Range: rng(0x5000, 0x9000)}}
	data := []procmem.Range{rng(0x1000, 0x2000), rng(0x5000, 0x8000)}
	resident := []procmem.Range{rng(0x1000, 0x2000), rng(0x6000, 0x7000)}
	some := []procmem.Range{rng(0x5800, 0x6800), rng(0x1800, 0x1900), rng(0x6000, 0x7800)}
	for name, c := range map[string]struct {
		mem     procmem.Memory
		in      []procmem.Range
		swapped bool
		want    []procmem.Range
		left    uint64
	}{
		"mappings":            {&mapped{maps: maps}, nil, false, []procmem.Range{rng(0x1000, 0x3000), rng(0x5000, 0x9000)}, 0},
		"mappings, nowhere":   {&mapped{maps: maps}, []procmem.Range{}, false, nil, 0},
		"mappings, somewhere": {&mapped{maps: maps}, some, false, []procmem.Range{rng(0x1800, 0x1900), rng(0x5800, 0x7800)}, 0},
		"resident":            {&sparse{mapped{maps: maps}, data, resident, nil}, nil, false, resident, 0x2000},
		"data":                {&sparse{mapped{maps: maps}, data, resident, nil}, nil, true, data, 0},
		"resident, somewhere": {&sparse{mapped{maps: maps}, data, resident, nil}, some, false, []procmem.Range{rng(0x1800, 0x1900), rng(0x6000, 0x7000)}, 0x1000},
		"nothing is swapped":  {&sparse{mapped{maps: usage(0)}, data, resident, nil}, nil, false, resident, 0},
		"something is":        {&sparse{mapped{maps: usage(1)}, data, resident, nil}, nil, false, resident, 0x2000},
		"mappings are hidden": {&sparse{mapped{err: procmem.ErrGone}, data, resident, nil}, nil, false, resident, 0x2000},
	} {
		p := NewPlan(c.mem, c.in, c.swapped)
		var got []procmem.Range
		for r, err := range p.Ranges() {
			if err != nil {
				t.Fatal(name, err)
			}
			got = append(got, r)
		}
		if !slices.Equal(got, c.want) || p.Swapped() != c.left {
			t.Errorf("%s: %v, and %#x bytes are swapped out; want %v and %#x", name, got, p.Swapped(), c.want, c.left)
		}
	}
}

// An error of the memory is the last that a plan yields.
func TestPlanFails(t *testing.T) {
	data := []procmem.Range{rng(0x1000, 0x2000)}
	for _, mem := range []procmem.Memory{&mapped{err: procmem.ErrGone}, &sparse{mapped{}, data, data, procmem.ErrGone}} {
		var last error
		n := 0
		for _, err := range NewPlan(mem, []procmem.Range{rng(0, 0x3000), rng(0x4000, 0x5000)}, false).Ranges() {
			if n++; last != nil {
				t.Fatalf("something follows %v", last)
			}
			last = err
		}
		if !errors.Is(last, procmem.ErrGone) || n > 2 {
			t.Errorf("%v after %d ranges; want %v", last, n, procmem.ErrGone)
		}
	}
}
