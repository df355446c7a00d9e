package glimpse

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/process"
)

// kept is memory that was copied in a pause, by pages, in front of memory that does not change.
// It is safe for concurrent use once it is sealed.
type kept struct {
	pages  map[procmem.Addr][]byte // by address
	free   []byte                  // of the current block
	blocks [][]byte                // used again for the next glimpse
	next   int                     // the block that is used after the current one
	used   uint64                  // bytes of all pages
	done   map[int]bool            // threads whose stacks were copied
	stacks map[procmem.Addr]bool   // beginnings of mappings that have stacks
	cuts   []procmem.Range         // parts of stacks that were left out, ascending from seal on

	view *process.View
	maps []procmem.Mapping
}

// blockSize is how much memory is made at once, in bytes.
const blockSize = 1 << 20

// begin forgets all pages, and makes memory for size bytes.
func (k *kept) begin(size uint64) {
	*k = kept{blocks: k.blocks, pages: make(map[procmem.Addr][]byte, size/procmem.PageSize),
		done: make(map[int]bool), stacks: make(map[procmem.Addr]bool)}
	for uint64(len(k.blocks))*blockSize < size {
		k.blocks = append(k.blocks, touched(blockSize))
	}
}

// touched returns memory that the kernel has given already.
func touched(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += procmem.PageSize {
		b[i] = 1
	}
	return b
}

// room returns memory for n bytes or fewer, in whole pages.
func (k *kept) room(n uint64) []byte {
	if len(k.free) == 0 {
		if k.next == len(k.blocks) {
			k.blocks = append(k.blocks, make([]byte, blockSize))
		}
		k.free = k.blocks[k.next]
		k.next++
	}
	n = min(n, uint64(len(k.free)))
	p := k.free[:n:n]
	k.free = k.free[n:]
	return p
}

// keep takes pages that were read into memory of room. What was kept of them before is
// forgotten.
func (k *kept) keep(at procmem.Addr, p []byte) {
	k.used += uint64(len(p))
	for ; len(p) > 0; at, p = at+procmem.PageSize, p[procmem.PageSize:] {
		k.pages[at] = p[:procmem.PageSize:procmem.PageSize]
	}
}

// seal makes the pages a memory, with the view in front of which they are.
func (k *kept) seal(view *process.View, maps []procmem.Mapping) {
	k.view, k.maps, k.cuts = view, maps, pageset.Merge(k.cuts)
}

// Mappings implements procmem.Memory.
func (k *kept) Mappings() ([]procmem.Mapping, error) { return k.maps, nil }

// ReadAt implements procmem.Memory.
func (k *kept) ReadAt(p []byte, addr procmem.Addr) (done int, err error) {
	for done < len(p) {
		a := addr + procmem.Addr(done)
		if page := k.pages[a.PageDown()]; page != nil {
			done += copy(p[done:], page[a-a.PageDown():])
			continue
		}
		n, err := k.read(p[done:], a)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// read reads what was not copied.
func (k *kept) read(p []byte, a procmem.Addr) (int, error) {
	i := procmem.FindMapping(k.maps, a)
	if i == len(k.maps) || !k.maps[i].Contains(a) {
		return 0, &procmem.FaultError{Addr: a, Err: procmem.ErrNotMapped}
	}
	if m := &k.maps[i]; k.fixed(m) {
		return k.view.ReadAt(p[:min(uint64(len(p)), uint64(m.End-a))], a)
	}
	if pageset.Contains(k.cuts, a) {
		return 0, &procmem.FaultError{Addr: a, Err: ErrCut}
	}
	return 0, &procmem.FaultError{Addr: a, Err: ErrNotCopied}
}

// fixed reports whether what is mapped there does not change while the process goes on: code,
// and what it may not write to.
func (k *kept) fixed(m *procmem.Mapping) bool {
	switch {
	case m.Special():
		return true
	case m.Shared() || k.stacks[m.Start]:
		return false
	}
	return m.Perm&procmem.PermRead != 0 && (m.Perm&procmem.PermWrite == 0 || m.Perm&procmem.PermExec != 0)
}
