package search

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/procmem/procmem"
)

// maxAutomata is the number of literals up to which each is looked for by itself.
const maxAutomata = 12

// sampling is how literals are found of which length bytes in a row are known. step is the
// distance in bytes between two places that are looked at. Each literal has keys of keySize
// bytes at step offsets, one after the other. So one of them is at such a place, wherever the
// literal is.
type sampling struct{ length, keySize, step int }

var samplings = [...]sampling{{11, 4, 8}, {7, 4, 4}, {5, 4, 2}, {4, 3, 2}, {3, 3, 1}, {2, 2, 1}, {1, 1, 1}}

// samples finds many literals at once. A bitmap tells of most places that they are none.
type samples struct {
	sampling
	patterns []Pattern
	mask     uint32 // of the keys; that of letters where any pattern is folded
	entries  []gram
	least    int // offset of a key in its pattern
	most     int

	bitmap  []uint64 // by hash
	shift   uint     // of a hash, to the right
	buckets []uint32 // of entries, by the upper bits of the hash
}

// gram is where a key is in a pattern.
type gram struct {
	key     uint32
	pattern uint32
	offset  uint32
}

// newSamples makes finders of the patterns with these indices, and returns those that have no
// byte to look for.
func newSamples(patterns []Pattern, indices []int) (finders []finder, rest []int) {
	var byLength [len(samplings)][]int
	for _, i := range indices {
		longest := longestSolid(&patterns[i])
		k := slices.IndexFunc(samplings[:], func(s sampling) bool { return s.length <= longest })
		if k < 0 {
			rest = append(rest, i)
			continue
		}
		byLength[k] = append(byLength[k], i)
	}
	join(&byLength)
	for k, indices := range byLength {
		if len(indices) > 0 {
			finders = append(finders, samplesOf(patterns, indices, samplings[k]))
		}
	}
	return finders, rest
}

// join makes one group of those with keys of one size: at all the places that the shortest
// literals need is looked in any case.
func join(byLength *[len(samplings)][]int) {
	shortest := len(samplings) - 1
	for k := shortest - 1; k >= 0; k-- {
		if len(byLength[shortest]) == 0 || samplings[k].keySize != samplings[shortest].keySize {
			shortest = k
			continue
		}
		byLength[shortest] = append(byLength[shortest], byLength[k]...)
		byLength[k] = nil
	}
}

// solid reports whether byte i of a pattern is known, but for its case.
func (p *Pattern) solid(i int) bool { return p.mask[i]|0x20 == 0xff }

func longestSolid(p *Pattern) int {
	longest, n := 0, 0
	for i := range p.value {
		if n++; !p.solid(i) {
			n = 0
		}
		longest = max(longest, n)
	}
	return longest
}

func samplesOf(patterns []Pattern, indices []int, how sampling) *samples {
	s := &samples{sampling: how, patterns: patterns, least: math.MaxInt, mask: math.MaxUint32}
	for _, i := range indices {
		if slices.Contains(patterns[i].mask, 0xdf) {
			s.mask = 0xdfdfdfdf
		}
	}
	s.mask >>= 32 - 8*uint(how.keySize)
	taken := map[uint32]int{}
	for _, i := range indices {
		first := s.choose(&patterns[i], taken)
		for offset := first; offset < first+how.step; offset++ {
			key := s.key(patterns[i].value[offset:])
			taken[key]++
			s.entries = append(s.entries, gram{key, uint32(i), uint32(offset)})
		}
		s.least, s.most = min(s.least, first), max(s.most, first+how.step-1)
	}
	s.index()
	return s
}

// key returns the first bytes of b, of which there may be too maxAutomata.
func (s *samples) key(b []byte) uint32 {
	var four [4]byte
	copy(four[:], b)
	return binary.LittleEndian.Uint32(four[:]) & s.mask
}

// choose returns where the bytes of a pattern begin that are rare, and not the keys of many
// others.
func (s *samples) choose(p *Pattern, taken map[uint32]int) (offset int) {
	const positions = 64 // that are looked at
	best := math.Inf(1)
	for i, looked := 0, 0; i+s.length <= len(p.value) && looked < positions; i++ {
		score := 0.0
		for j := i; j < i+s.length; j++ {
			if score += float64(common[p.value[j]]); !p.solid(j) {
				score = math.Inf(1)
			}
		}
		if math.IsInf(score, 1) {
			continue
		}
		looked++
		for j := i; j < i+s.step; j++ {
			score += 20 * float64(taken[s.key(p.value[j:])])
		}
		if score < best {
			best, offset = score, i
		}
	}
	return offset
}

// index makes the tables.
func (s *samples) index() {
	bucketBits := uint(bits.Len(uint(len(s.entries))))
	hashBits := min(max(bucketBits+7, 12), 20)
	bucketBits = min(bucketBits, hashBits)
	s.shift = 32 - hashBits
	s.bitmap = make([]uint64, 1<<hashBits/64)
	s.buckets = make([]uint32, 1<<bucketBits+1)
	slices.SortStableFunc(s.entries, func(x, y gram) int { return cmp.Compare(s.hash(x.key), s.hash(y.key)) })
	for _, e := range s.entries {
		h := s.hash(e.key)
		s.bitmap[h/64] |= 1 << (h % 64)
		s.buckets[h>>(hashBits-bucketBits)+1]++
	}
	for i := 1; i < len(s.buckets); i++ {
		s.buckets[i] += s.buckets[i-1]
	}
}

// multiplier is the golden ratio, as Knuth hashes by it.
const multiplier = 0x9e3779b1

func (s *samples) hash(key uint32) uint32 { return key * multiplier >> s.shift }

// find looks at places of keys, not of patterns.
func (s *samples) find(w *window) {
	i, end := w.from+s.least, min(w.to+s.most, len(w.b)-s.keySize+1)
	i += -i & (s.step - 1) // so that all windows look at the same places
	for more := true; more && i < end; {
		if i, more = s.maybe(w.b, i, end); more {
			s.verify(w, i, s.key(w.b[i:]))
			i += s.step
		}
	}
}

// maybe returns the first place before end of what may be a key, and whether there is one.
func (s *samples) maybe(b []byte, i, end int) (int, bool) {
	step, mask, shift := s.step, s.mask, s.shift&31
	bitmap, last := s.bitmap, uint32(len(s.bitmap)-1)
	// bit is the lowest.
	bit := func(i int) uint64 {
		h := binary.LittleEndian.Uint32(b[i:i+4]) & mask * multiplier >> shift
		return bitmap[h>>6&last] >> (h & 63)
	}
	for stop := min(end, len(b)-3) - 3*step; i < stop; i += 4 * step {
		if (bit(i)|bit(i+step)|bit(i+2*step)|bit(i+3*step))&1 != 0 {
			break
		}
	}
	for ; i < end; i += step {
		if h := s.hash(s.key(b[i:])); bitmap[h>>6]&(1<<(h&63)) != 0 {
			return i, true
		}
	}
	return end, false
}

// verify adds the patterns of which the key at i is one.
func (s *samples) verify(w *window, i int, key uint32) {
	h := uint64(s.hash(key)) * uint64(len(s.buckets)-1) >> (32 - s.shift)
	for _, e := range s.entries[s.buckets[h]:s.buckets[h+1]] {
		start := i - int(e.offset)
		if e.key != key || start < w.from || start >= w.to {
			continue
		}
		if p := &s.patterns[e.pattern]; p.at(w.b[start:], w.addr+procmem.Addr(start)) {
			w.add(start, p.fixed(), int(e.pattern))
		}
	}
}
