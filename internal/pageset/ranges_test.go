package pageset

import (
	"math/rand/v2"
	"testing"

	"github.com/procmem/procmem"
)

// Ranges that touch or overlap are one.
func TestMerge(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		var in []procmem.Range
		var want [64]bool
		for range random.IntN(12) {
			lo := random.IntN(60)
			hi := lo + 1 + random.IntN(4)
			in = append(in, procmem.Range{Start: procmem.Addr(lo), End: procmem.Addr(hi)})
			for i := lo; i < hi; i++ {
				want[i] = true
			}
		}
		out := Merge(in)
		var got [64]bool
		for i, r := range out {
			if r.Empty() || i > 0 && out[i-1].End >= r.Start {
				t.Fatalf("%v", out)
			}
			for k := r.Start; k < r.End; k++ {
				got[k] = true
			}
		}
		if got != want {
			t.Fatalf("%v", out)
		}
		for lo := procmem.Addr(0); lo < 63; lo++ {
			r := procmem.Range{Start: lo, End: lo + 1}
			if Overlaps(out, r) != want[lo] || Covers(out, r) != want[lo] {
				t.Fatalf("%v in %v: overlaps %v, contains %v; want %v", r, out, Overlaps(out, r), Covers(out, r), want[lo])
			}
		}
	}
}
