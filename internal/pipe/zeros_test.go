package pipe

import (
	"iter"
	"testing"

	"github.com/procmem/procmem"
)

// swapped is memory of two pages of zeros, of which the second is swapped out.
type swapped struct{ t *testing.T }

func (swapped) Mappings() ([]procmem.Mapping, error) { return nil, nil }

func (swapped) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) { yield(r, nil) }
}

func (swapped) Resident(r procmem.Range) iter.Seq2[procmem.Range, error] {
	r.End = r.Start + procmem.PageSize
	return swapped{}.Data(r)
}

func (m swapped) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	if addr+procmem.Addr(len(p)) > 0x11000 {
		m.t.Errorf("%v+%#x was read, which brings it back", addr, len(p))
	}
	clear(p)
	return len(p), nil
}

// To find out whether a core fits brings nothing back that is swapped out.
func TestCountZerosLeavesSwap(t *testing.T) {
	n, err := CountZeros(t.Context(), swapped{t}, []procmem.Range{{Start: 0x10000, End: 0x12000}})
	if n != procmem.PageSize || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}
