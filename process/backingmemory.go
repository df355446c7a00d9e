package process

import (
	"errors"
	"iter"

	"github.com/procmem/procmem"
)

// Backing returns the backing memory of maps, whatever the process has written to its own
// pages. That of private mappings is the bytes of their files, and that of shared ones is what
// is shared. It may be read at any time while the view is open. Anonymous memory is a fault.
func (v *View) Backing(maps []procmem.Mapping) procmem.Sparse { return backingMemory{v, maps} }

type backingMemory struct {
	v    *View
	maps []procmem.Mapping
}

func (b backingMemory) Mappings() ([]procmem.Mapping, error) { return b.maps, nil }

func (b backingMemory) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	done := 0
	for done < len(p) {
		a := addr + procmem.Addr(done)
		i := procmem.FindMapping(b.maps, a)
		if i == len(b.maps) || a < b.maps[i].Start {
			return done, &procmem.FaultError{Addr: a, Err: procmem.ErrNotMapped}
		}
		m := &b.maps[i]
		n, err := b.read(m, p[done:done+int(min(uint64(len(p)-done), uint64(m.End-a)))], a)
		if done += n; err != nil {
			return done, &procmem.FaultError{Addr: addr + procmem.Addr(done), Err: err}
		}
	}
	return done, nil
}

// read reads a part of one mapping.
func (b backingMemory) read(m *procmem.Mapping, p []byte, a procmem.Addr) (int, error) {
	switch {
	case m.Device():
		return 0, procmem.ErrDevice
	case m.Shared():
		return b.v.readMapping(m, p, a)
	case !m.HasFile() || m.Flags&procmem.VMHugeTLB != 0:
		return 0, procmem.ErrGone
	}
	file, release := b.v.back.File(m)
	defer release()
	if file == nil {
		return 0, procmem.ErrUnreadable
	}
	n, err := readFile(file, m, p, a)
	if errors.Is(err, errNoFileData) {
		err = procmem.ErrUnreadable
	}
	return n, err
}

func (b backingMemory) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for i := procmem.FindMapping(b.maps, r.Start); i < len(b.maps) && b.maps[i].Start < r.End; i++ {
			m := &b.maps[i]
			part := m.Range.Intersect(r)
			switch {
			case m.Shared() && !b.v.mappingData(m, part, 0, yield):
				return
			case m.Shared() || !m.HasFile() || m.Flags&procmem.VMHugeTLB != 0:
				continue
			}
			file, release := b.v.back.File(m)
			goesOn := file == nil || fileExtents(file, m, part, yield)
			if release(); !goesOn {
				return
			}
		}
	}
}
