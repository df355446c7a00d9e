package main

import (
	"encoding/binary"

	"github.com/procmem/procmem"
)

// oldGDB warns that gdb before version 14 complains of the size of .reg-xstate in a core. The
// processor lays the area out in another way than the first processors that had these
// registers.
const oldGDB = "gdb before version 14 warns of the size of .reg-xstate, and does not show vector registers whole, as with the kernel's own cores on this processor: the core has them"

// warnsOldGDB reports whether gdb before version 14 would complain. The area must not be made
// to fit, because gdb 14 and later tell the layouts apart by their sizes.
func warnsOldGDB(img *procmem.Image) bool {
	const (
		xcr0At = 464 // offset in the area of the mask of parts that the kernel saves
		avx    = 1 << 2
		mpx    = 3 << 3
		avx512 = 7 << 5
		pkru   = 1 << 9
	)
	for i := range img.Threads {
		area := img.Threads[i].Regset(procmem.NTX86XState)
		if len(area) < xcr0At+8 {
			continue
		}
		// Old gdb expects the size that follows from the last part that it knows.
		xcr0, want := binary.LittleEndian.Uint64(area[xcr0At:]), 576
		switch {
		case xcr0&pkru != 0:
			want = 2696
		case xcr0&avx512 != 0:
			want = 2688
		case xcr0&mpx != 0:
			want = 1088
		case xcr0&avx != 0:
			want = 832
		}
		if len(area) < 832 {
			want = 576
		}
		return len(area) != want
	}
	return false
}
