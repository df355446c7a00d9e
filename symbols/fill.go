package symbols

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elffile"
)

// Filled is the memory of a core together with what the core leaves out of programs and
// libraries, because their files have it: code and constants. It is safe for concurrent use,
// except for Close.
type Filled struct {
	procmem.Memory
	maps []procmem.Mapping
	told func(f *Found)

	mu    sync.Mutex
	files map[int]*text // by the mapping that begins the file
}

// text is what a file has of memory that nobody could write to.
type text struct {
	file  *Found
	loads []elffile.Segment
	bias  uint64 // an address less the one in the file, modulo 2^64
	err   error  // why there is none
}

// Fill returns the memory mem of a core, filled. ms are its mappings, which must ascend and not
// change. Only files of this machine with the build ids of those in the core are read. told, if
// not nil, is called for each file before the first byte is read of it. Close must be called.
func Fill(mem procmem.Memory, ms []procmem.Mapping, told func(f *Found)) *Filled {
	if told == nil {
		told = func(*Found) {}
	}
	return &Filled{Memory: mem, maps: ms, told: told, files: make(map[int]*text)}
}

// ReadAt is that of procmem.Memory. For memory that neither the core nor a file holds it fails
// with procmem.ErrNotDumped, and the reason.
func (f *Filled) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	n := 0
	for n < len(p) {
		at := addr + procmem.Addr(n)
		m, err := f.Memory.ReadAt(p[n:], at)
		if n += m; err == nil {
			return n, nil
		}
		// Memory that should be in the core, and is not, may have been written to. Its fault
		// has a reason around ErrNotDumped.
		fault, ok := errors.AsType[*procmem.FaultError](err)
		if !ok || !errors.Is(fault.Err, procmem.ErrNotDumped) || errors.Unwrap(fault.Err) != nil {
			return n, err
		}
		m, err = f.readFile(p[n:], fault)
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// Close closes the files.
func (f *Filled) Close() error {
	var errs []error
	for _, t := range f.files {
		if t.file != nil {
			errs = append(errs, t.file.Close())
		}
	}
	return errors.Join(errs...)
}

// readFile reads what lies at a fault from the file that is mapped there, at least one byte or
// an error.
func (f *Filled) readFile(p []byte, fault *procmem.FaultError) (int, error) {
	i := procmem.FindMapping(f.maps, fault.Addr)
	if i == len(f.maps) || !f.maps[i].Contains(fault.Addr) {
		return 0, fault
	}
	m := &f.maps[i]
	end := min(m.End, max(fault.Until, fault.Addr+1))
	because := func(err error) error {
		return &procmem.FaultError{Addr: fault.Addr, Err: fmt.Errorf("%w: %w", procmem.ErrNotDumped, err), Until: end}
	}
	if m.Perm&procmem.PermWrite != 0 || m.Path == "" || m.Path[0] != '/' {
		return 0, fault
	}
	t := f.text(i)
	off := m.Offset + uint64(fault.Addr-m.Start)
	switch {
	case t.err != nil:
		return 0, because(t.err)
	case !t.has(fault.Addr, off):
		return 0, because(errWritten)
	}
	n, err := readPages(t.file, p[:min(uint64(len(p)), uint64(end-fault.Addr))], off)
	if n == 0 {
		return 0, because(err)
	}
	return n, nil
}

// errWritten reports memory of which the file does not tell the contents.
var errWritten = errors.New("the file has not what was there: the program or its loader may have written to it")

// has reports whether the file tells what was at an address, where its offset off was mapped:
// the program headers load it there, and never for writing.
func (t *text) has(a procmem.Addr, off uint64) bool {
	v, found := uint64(a)-t.bias, false
	for _, s := range t.loads {
		if s.Covers(off) && v-s.Addr == off-s.Off {
			if s.Writable {
				return false
			}
			found = true
		}
	}
	return found
}

// text returns the file of mapping i.
func (f *Filled) text(i int) *text {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := f.first(i)
	t, ok := f.files[first]
	if !ok {
		t = f.open(first)
		f.files[first] = t
	}
	return t
}

// first returns the mapping that begins the file of mapping i, or i itself.
func (f *Filled) first(i int) int {
	for k := i; k >= 0; k-- {
		switch m := &f.maps[k]; {
		case neutral(m):
		case keyOf(m) != keyOf(&f.maps[i]):
			return i
		case m.Offset == 0:
			return k
		}
	}
	return i
}

func (f *Filled) open(first int) *text {
	m := &f.maps[first]
	file, err := Find(f.Memory, m)
	if err != nil {
		return &text{err: err}
	}
	t, err := textOf(file, m.Start)
	if err != nil {
		file.Close()
		return &text{err: err}
	}
	f.told(file)
	return t
}

// textOf returns a text for a file whose beginning is at an address.
func textOf(file *Found, start procmem.Addr) (*text, error) {
	if file.BuildID == nil {
		return nil, fmt.Errorf("%s has no build id", file.Path)
	}
	e, err := elffile.Open(file, file.Size())
	if err != nil {
		return nil, err
	}
	segs, err := e.Segments()
	if err != nil {
		return nil, err
	}
	loads := loadsOf(segs)
	v, ok := (&object{loads: loads}).address(0)
	if !ok {
		return nil, elffile.ErrNotELF
	}
	return &text{file: file, loads: slices.Clip(loads), bias: uint64(start) - v}, nil
}

// readPages reads a file as it is mapped: its last page ends with zeros.
func readPages(f File, p []byte, off uint64) (int, error) {
	size := uint64(f.Size())
	if end := elffile.PageUp(size); off >= end {
		return 0, io.ErrUnexpectedEOF
	} else if uint64(len(p)) > end-off {
		p = p[:end-off]
	}
	n, err := f.ReadAt(p, int64(off))
	if n < len(p) && off+uint64(n) >= size {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}
