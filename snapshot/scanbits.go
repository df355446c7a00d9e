package snapshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/sys"
)

// maxAddresses is how much address space, in bytes, is looked at page by page. The pagemap has 8
// bytes for each page of it, whether the page exists or not.
const maxAddresses = 64 << 30

// errReserved says why pages are not looked at one by one.
var errReserved = errors.New("it has reserved too much address space for a kernel that tells of each page of it (before 6.7)")

// countable returns errReserved if the process has more address space than is looked at page by
// page.
func (l *look) countable() error {
	var sum uint64
	for i := range l.maps {
		if m := &l.maps[i]; !m.Device() && !m.Special() {
			sum += m.Size()
		}
	}
	if sum > maxAddresses {
		return fmt.Errorf("%w: %d GiB", errReserved, sum>>30)
	}
	return nil
}

// queryEntries is query for kernels before 6.7. It reads the entries of all pages. The result
// tells which are a file's.
func (f *pauser) queryEntries(r procmem.Range) (out []sys.PageRegion, err error) {
	pm, err := f.openPagemap()
	if err != nil {
		return nil, err
	}
	for i := procmem.FindMapping(f.maps, r.Start); i < len(f.maps) && f.maps[i].Start < r.End; i++ {
		if m := &f.maps[i]; !m.Device() && !m.Special() {
			if out, err = dirty.Regions(pm, m.Range.Intersect(r), out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// scanBits is scan where memory is tracked by soft-dirty bits.
func (f *pauser) scanBits() error {
	found, err := f.bits.Look(context.Background(), f.clearable(), f.maps)
	if err != nil {
		return err
	}
	k := 0
	for i := range f.maps {
		m := &f.maps[i]
		if !clearable(m) {
			if m.End > 1<<63 { // [vsyscall]
				continue
			}
			if err := f.exact(m.Range); err != nil {
				return err
			}
			continue
		}
		for ; k < len(found) && procmem.Addr(found[k].Start) < m.End; k++ {
			f.regions = append(f.regions, found[k])
		}
	}
	if len(f.regions) == 0 {
		return f.lost()
	}
	return nil
}

// clearable returns the ranges in which soft-dirty bits tell of writes.
func (l *look) clearable() (out []procmem.Range) {
	for i := range l.maps {
		if clearable(&l.maps[i]) {
			out = append(out, l.maps[i].Range)
		}
	}
	return out
}

// clearable reports whether soft-dirty bits tell of writes to a mapping. Nothing is known of a
// mapping that is new. Huge pages of hugetlbfs have no such bits.
func clearable(m *procmem.Mapping) bool {
	const foreign = procmem.VMUffdMiss | procmem.VMUffdWP | procmem.VMHugeTLB
	return dirty.Private(m) && m.Flags != 0 && m.Flags&foreign == 0
}
