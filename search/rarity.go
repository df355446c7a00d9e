package search

import (
	"cmp"
	"math"
	"slices"
)

// common tells how common bytes are in the memory of programs: 20 for each doubling. It was
// counted in programs, libraries, sources and documents.
var common = [256]uint8{
	160, 80, 63, 56, 58, 57, 42, 41, 70, 34, 55, 36, 34, 39, 66, 85,
	58, 28, 34, 25, 30, 31, 21, 19, 49, 20, 18, 19, 25, 20, 20, 53,
	102, 22, 32, 22, 74, 39, 16, 28, 51, 40, 22, 23, 32, 43, 46, 26,
	44, 57, 25, 22, 26, 34, 19, 16, 38, 37, 30, 23, 28, 40, 20, 18,
	44, 72, 46, 35, 66, 53, 29, 30, 102, 55, 20, 21, 67, 36, 28, 26,
	40, 17, 28, 38, 44, 36, 24, 22, 28, 18, 17, 31, 31, 34, 20, 54,
	28, 60, 35, 51, 55, 75, 66, 40, 45, 61, 18, 26, 56, 43, 61, 61,
	50, 16, 63, 63, 75, 54, 30, 28, 34, 31, 18, 21, 32, 23, 18, 21,
	43, 24, 17, 63, 56, 61, 25, 19, 28, 86, 13, 76, 24, 65, 20, 19,
	33, 13, 15, 14, 20, 15, 13, 13, 21, 13, 12, 12, 17, 13, 12, 12,
	24, 13, 12, 16, 15, 12, 12, 12, 21, 12, 13, 13, 16, 12, 12, 15,
	23, 13, 12, 13, 17, 14, 30, 19, 30, 20, 29, 17, 20, 17, 29, 23,
	61, 37, 28, 39, 35, 31, 31, 41, 26, 28, 18, 15, 17, 16, 17, 15,
	32, 19, 29, 18, 16, 17, 17, 15, 29, 21, 17, 23, 16, 20, 19, 31,
	31, 18, 22, 16, 22, 17, 22, 24, 69, 50, 23, 33, 28, 26, 28, 40,
	30, 20, 23, 25, 20, 22, 36, 28, 35, 26, 30, 30, 32, 37, 46, 102,
}

// commonness is that of the bytes that are value after mask.
func commonness(value, mask byte) float64 {
	if mask == 0xff {
		return float64(common[value])
	}
	sum := 0.0
	for b := range 256 {
		if byte(b)&mask == value {
			sum += math.Exp2(float64(common[b]) / 20)
		}
	}
	return 20 * math.Log2(sum)
}

// pairsOf returns some pairs of a pattern with the offset of the first byte, rarest first.
func pairsOf(p *Pattern) (pairs []pair, offsets []int) {
	const positions, most = 256, 3
	type position struct {
		at   int
		rare float64
	}
	var all []position
	for i := range min(positions, len(p.value)) {
		if p.mask[i] != 0 {
			all = append(all, position{i, commonness(p.value[i], p.mask[i])})
		}
	}
	for i := positions; i < len(p.value) && len(all) == 0; i++ { // wildcards in front
		if p.mask[i] != 0 {
			all = append(all, position{i, 0})
		}
	}
	slices.SortStableFunc(all, func(a, b position) int { return cmp.Compare(a.rare, b.rare) })
	for k := 0; k < len(all) && len(pairs) < most; k += 2 {
		i, j := all[k].at, all[min(k+1, len(all)-1)].at
		i, j = min(i, j), max(i, j)
		pairs = append(pairs, pair{j - i, p.value[i], p.mask[i], p.value[j], p.mask[j]})
		offsets = append(offsets, i)
	}
	return pairs, offsets
}
