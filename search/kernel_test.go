package search

import (
	"math/rand/v2"
	"testing"
)

// bytesFor returns random bytes of few different values, so that what is looked
// for is there.
func bytesFor(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = "\x00\x01\x20\x7e\x7f\x80\xffab\t"[random.IntN(10)]
	}
	return b
}

// The functions for vectors do what the plain ones do.
func TestVectors(t *testing.T) {
	if !hasVectors {
		t.Skip("no vectors here")
	}
	for seed := range uint64(4000) {
		random := rand.New(rand.NewPCG(seed, 0))
		b := bytesFor(random, random.IntN(1<<random.IntN(10)))
		pick := func() byte { return bytesFor(random, 1)[0] }
		p := pair{random.IntN(40), pick(), []byte{0xff, 0xdf, 0xf0, 0x0f}[random.IntN(4)], pick(), []byte{0xff, 0xdf, 0, 0x7f}[random.IntN(4)]}
		p.v1 &= p.m1
		p.v2 &= p.m2
		if got, want := p.index(b), p.indexGeneric(b); got != want {
			t.Fatalf("seed %d: %+v at %d of %x; want %d", seed, p, got, b, want)
		}
		size := 1 << random.IntN(4)
		n := number{size: size}
		s := valueRange{n.load(bytesFor(random, 8)), n.load(bytesFor(random, 8))}
		if random.IntN(2) == 0 {
			s.more = uint64(random.IntN(3))
		}
		whole := b[:len(b)&^(size-1)]
		if got, want := indexRange(whole, size, s), indexRangeGeneric(whole, size, s); got != want {
			t.Fatalf("seed %d: %d bytes in %+v at %d of %x; want %d", seed, size, s, got, whole, want)
		}
		for i := range b {
			var got, want [5]uint64
			printable(got[:], b[i:], b[0]&0x80)
			printableGeneric(want[:], b[i:], b[0]&0x80)
			if got != want {
				t.Fatalf("seed %d: %x are printable in %x; want %x", seed, got, b[i:], want)
			}
		}
	}
}
