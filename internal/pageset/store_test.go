package pageset

import (
	"bytes"
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/procmem/procmem"
)

type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// disjoint makes sure that no two places share an address or a byte of the
// file.
func disjoint(t *testing.T, s *Store) {
	t.Helper()
	byOffset := slices.Clone(s.places)
	slices.SortFunc(byOffset, func(a, b Place) int {
		return cmp.Compare(int64(a.Start)+a.Delta, int64(b.Start)+b.Delta)
	})
	for i := 1; i < len(s.places); i++ {
		if s.places[i].Start < s.places[i-1].End {
			t.Fatalf("places %v and %v overlap", s.places[i-1], s.places[i])
		}
		if a, b := byOffset[i-1], byOffset[i]; int64(a.End)+a.Delta > int64(b.Start)+b.Delta {
			t.Fatalf("places %v and %v overlap in the file", a, b)
		}
	}
	if k := len(byOffset) - 1; k >= 0 && int64(byOffset[k].End)+byOffset[k].Delta > s.end {
		t.Fatalf("place %v ends behind %#x", byOffset[k], s.end)
	}
}

func TestPlaces(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	const size = 6 * chunkPages
	for _, base := range []procmem.Addr{0, 0x7f0000000000, procmem.Addr(math.MaxUint64).PageDown() - size*page} {
		fixed := []Place{{rng(base+100*page, base+700*page), page - 100*page - int64(base)}}
		s := NewStore(discard{}, fixed, 601*page, math.MaxInt64)
		one := bytes.Repeat([]byte{1}, page)
		for range 200 {
			var ranges []procmem.Range
			for at := 0; at < size; {
				n := 1 + random.IntN(300)
				if r := rng(base+procmem.Addr(at)*page, base+procmem.Addr(min(at+n, size))*page); random.IntN(2) == 0 {
					ranges = append(ranges, r)
				}
				at += n
			}
			if err := s.Put(base+procmem.Addr(random.IntN(size))*page, one); err != nil {
				t.Fatal(err)
			}
			disjoint(t, s)
			if random.IntN(20) > 0 {
				continue
			}
			places, err := s.Settle(ranges)
			if err != nil {
				t.Fatal(err)
			}
			disjoint(t, s)
			for _, p := range places {
				for !p.Empty() && len(ranges) > 0 && p.Start == ranges[0].Start {
					ranges[0].Start, p.Start = p.End, p.End
					if ranges[0].Empty() {
						ranges = ranges[1:]
					}
				}
				if !p.Empty() {
					t.Fatalf("%v belongs to no range", p)
				}
			}
			if len(ranges) > 0 {
				t.Fatalf("no place for %v", ranges)
			}
		}
		if n := len(s.places); n > 60 {
			t.Errorf("%d places", n)
		}
	}
}

// The limit of the path is memory bandwidth: looking for zeros must stay well
// above the speed of reading a process.
func BenchmarkRun(b *testing.B) {
	for name, fill := range map[string]byte{"zero": 0, "data": 1} {
		b.Run(name, func(b *testing.B) {
			p := bytes.Repeat([]byte{fill}, 2<<20)
			b.SetBytes(2 << 20)
			for b.Loop() {
				if Run(fill == 0, p) != len(p) {
					b.Fatal("wrong")
				}
			}
		})
	}
}
