package diff

import (
	"bytes"
	"encoding/binary"
	"iter"
	"math/bits"

	"github.com/procmem/procmem"
)

// Gap is how many equal bytes part two differences. Fewer belong to the change in which they
// lie.
const Gap = 16

// Change is a range whose bytes differ. Its first and its last byte do, and fewer than Gap
// neighbours in between do not. It lies in one page; if the next page has a change less than
// Gap bytes behind it, Join makes one of the two.
type Change struct {
	procmem.Range
	Bytes uint64 // that differ
	// A and B are what the first and the second memory hold there, valid until the next change.
	A, B []byte
	// Mapping is the index of the mapping of the first memory.
	Mapping int
}

// Join merges changes of one mapping that only a page boundary parts, however long the result
// becomes. What it yields has no A and B.
func Join(changes iter.Seq2[Change, error]) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		var cur Change
		for c, err := range changes {
			if err != nil {
				if cur.Bytes == 0 || yield(cur, nil) {
					yield(c, err)
				}
				return
			}
			if cur.Bytes > 0 && goesOn(cur.Range, cur.Mapping, c.Start, c.Mapping) {
				cur.End = c.End
				cur.Bytes += c.Bytes
				continue
			}
			if cur.Bytes > 0 && !yield(cur, nil) {
				return
			}
			cur = c
			cur.A, cur.B = nil, nil
		}
		if cur.Bytes > 0 {
			yield(cur, nil)
		}
	}
}

// goesOn reports whether what begins at start belongs to r.
func goesOn(r procmem.Range, mapping int, start procmem.Addr, other int) bool {
	return mapping == other && start-r.End < Gap
}

// run is a difference in a slice: the bytes from start up to end.
type run struct{ start, end, differ int }

// appendRuns appends where a and b, which are as long, differ. The first byte is that of an
// address: no run leaves its page.
func appendRuns(runs []run, addr procmem.Addr, a, b []byte) []run {
	for at := 0; at < len(a); {
		end := min(len(a), at+procmem.PageSize-int((addr+procmem.Addr(at))%procmem.PageSize))
		if !bytes.Equal(a[at:end], b[at:end]) {
			runs = inPage(runs, a[:end], b[:end], at)
		}
		at = end
	}
	return runs
}

// line is how much of a page is compared at once, in bytes.
const line = 128

// inPage is appendRuns for what begins at an index and lies in one page.
func inPage(runs []run, a, b []byte, at int) []run {
	var cur run
	add := func(start, end, differ int) {
		switch {
		case cur.differ == 0:
			cur.start = start
		case start-cur.end >= Gap:
			runs = append(runs, cur)
			cur = run{start: start}
		}
		cur.end = end
		cur.differ += differ
	}
	for at+8 <= len(a) {
		if at%line == 0 && at+line <= len(a) && bytes.Equal(a[at:at+line], b[at:at+line]) {
			at += line
			continue
		}
		x := binary.LittleEndian.Uint64(a[at:]) ^ binary.LittleEndian.Uint64(b[at:])
		if x != 0 {
			add(at+bits.TrailingZeros64(x)/8, at+8-bits.LeadingZeros64(x)/8, nonzero(x))
		}
		at += 8
	}
	for ; at < len(a); at++ {
		if a[at] != b[at] {
			add(at, at+1, 1)
		}
	}
	return append(runs, cur)
}

// nonzero counts the bytes of x that are not zero.
func nonzero(x uint64) int {
	const low = 0x7f7f7f7f7f7f7f7f
	// The upper bit of a byte becomes that of the byte or any of its lower.
	return bits.OnesCount64(((x & low) + low | x) &^ low)
}
