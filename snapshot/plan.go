package snapshot

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/holders"
	"github.com/procmem/procmem/internal/overlay"
	"github.com/procmem/procmem/internal/pageset"
)

// plan finds out what there is to copy, and which part of it during the pause.
func (f *pauser) plan() error {
	planned := f.text
	if _, err := f.refresh(); err != nil || planned != nil && bytes.Equal(planned, f.text) {
		return err
	}
	f.wanted = f.o.want(f.img, f.view)
	f.s.Torn, f.whole, f.inPause = nil, nil, 0
	for i := range f.maps {
		switch m := &f.maps[i]; {
		case m.Device() || !pageset.Overlaps(f.wanted, m.Range), m.Shared() && !m.Special():
		case m.Special() || m.Flags&procmem.VMUffdMiss != 0 || m.HasFile() && !f.fromFile(m):
			f.whole = append(f.whole, *m)
		}
	}
	shared := f.boundShared(f.sharedMappings(f.maps), f.mayTrack)
	f.track(shared.tracked)
	f.torn = shared.torn
	if f.pins = cmp.Or(f.pins, holders.Pinned(f.p)); f.pins != "" {
		for _, m := range f.pinnable() {
			f.torn += overlay.KeepSize(f.view, &m)
		}
	}
	f.whole = append(f.whole, shared.inPause...)
	slices.SortFunc(f.whole, func(a, b procmem.Mapping) int { return cmp.Compare(a.Start, b.Start) })
	for i := range f.whole {
		f.inPause += overlay.KeepSize(f.view, &f.whole[i])
	}
	return nil
}

// pinnable returns the mappings that precopy copies before the pause, and that somebody may
// write to without a fault.
func (f *pauser) pinnable() (out []procmem.Mapping) {
	for i := range f.maps {
		m := &f.maps[i]
		tracked := dirty.Private(m) || f.shared[holders.Of(m)] != nil
		if tracked && m.Perm&procmem.PermWrite != 0 && pageset.Overlaps(f.wanted, m.Range) && !slices.ContainsFunc(f.whole, func(w procmem.Mapping) bool { return w.Range == m.Range }) {
			out = append(out, *m)
		}
	}
	return out
}
