package stacks

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"iter"
	"slices"
)

// Grouped is what one or more threads are doing: their return addresses are the same.
type Grouped struct {
	Stack
	TIDs []int // ascending; the frames are those of the first thread that was seen
}

// maxGrouped bounds the frames that Group keeps: 192 MiB. Only threads that are each deep in
// another recursion have so many.
const maxGrouped = 4 << 20

// Group puts identical stacks together: the same instructions, and the same reason for the end.
// The group with the most threads comes first. The stack pointers may differ.
//
// It keeps some four million frames in all. Of stacks beyond that, it keeps the innermost
// frames alone, and they end with Limit.
func Group(all iter.Seq[Stack]) []Grouped {
	var groups []Grouped
	seed := maphash.MakeSeed()
	byHash := map[uint64][]int{}
	kept := 0
	for s := range all {
		if room := max(maxGrouped-kept, leastKept); len(s.Frames) > room {
			s.Frames = slices.Clone(s.Frames[:room])
			s.Stop = &StopError{TID: s.TID, Reason: Limit}
		}
		h := hash(seed, s)
		i := slices.IndexFunc(byHash[h], func(i int) bool { return same(groups[i].Stack, s) })
		if i >= 0 {
			g := &groups[byHash[h][i]]
			g.TIDs = append(g.TIDs, s.TID)
			continue
		}
		byHash[h] = append(byHash[h], len(groups))
		groups = append(groups, Grouped{s, []int{s.TID}})
		kept += len(s.Frames)
	}
	for i := range groups {
		slices.Sort(groups[i].TIDs)
	}
	slices.SortStableFunc(groups, func(a, b Grouped) int {
		return cmp.Or(cmp.Compare(len(b.TIDs), len(a.TIDs)), cmp.Compare(a.TIDs[0], b.TIDs[0]))
	})
	return groups
}

// leastKept is the frames that Group keeps of a stack in any case.
const leastKept = 64

func hash(seed maphash.Seed, s Stack) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var b [8]byte
	for _, f := range s.Frames {
		binary.LittleEndian.PutUint64(b[:], uint64(f.PC))
		h.Write(b[:])
	}
	return h.Sum64()
}

// same reports whether two stacks are the same to a reader.
func same(a, b Stack) bool {
	return a.Stop.reason() == b.Stop.reason() && slices.EqualFunc(a.Frames, b.Frames, func(f, g Frame) bool {
		return f.PC == g.PC && f.Signal == g.Signal
	})
}

func (e *StopError) reason() Reason {
	if e == nil {
		return End
	}
	return e.Reason
}
