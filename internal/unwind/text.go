package unwind

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/procmem/procmem"
)

// Opener opens the file that is mapped in m. It fails if the file cannot be had.
type Opener func(m *procmem.Mapping) (File, error)

// File is what code and tables are read from. The Unwinder closes it.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

const (
	maxPages = 4096 // that are kept: 16 MiB
	maxFiles = 64   // that are open at a time
)

var errNoFile = errors.New("its file is not at hand")

// text reads code and tables by address: from memory, or, where a core leaves them out, from
// the files that are mapped there. It is safe for concurrent use.
type text struct {
	mem  procmem.Memory
	maps []procmem.Mapping
	open Opener

	mu    sync.Mutex
	pages map[uint64]page
	files map[fileKey]File // nil for one that cannot be had
}

type fileKey struct {
	path         string
	major, minor uint32
	inode        uint64
}

func keyOf(m *procmem.Mapping) fileKey { return fileKey{m.Path, m.Major, m.Minor, m.Inode} }

// ReadAt fills b from an address, or fails.
func (t *text) ReadAt(b []byte, addr uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(b) > 0 {
		p := t.page(addr &^ (procmem.PageSize - 1))
		off := addr - p.at
		if off >= uint64(len(p.data)) {
			return p.err
		}
		n := copy(b, p.data[off:])
		b, addr = b[n:], addr+uint64(n)
	}
	return nil
}

func (t *text) page(at uint64) page {
	if p, ok := t.pages[at]; ok {
		return p
	}
	if len(t.pages) >= maxPages {
		clear(t.pages)
	}
	p := page{at: at, data: make([]byte, procmem.PageSize)}
	n, err := t.mem.ReadAt(p.data, procmem.Addr(at))
	if err != nil && n == 0 {
		if n = t.readFile(p.data, procmem.Addr(at)); n > 0 {
			err = io.ErrUnexpectedEOF // behind the end of the file
		}
	}
	p.data, p.err = p.data[:n], err
	t.pages[at] = p
	return p
}

// readFile reads a page from the file that is mapped there. The process cannot have written to
// it: that memory is not writable.
func (t *text) readFile(b []byte, a procmem.Addr) int {
	i := procmem.FindMapping(t.maps, a)
	if i == len(t.maps) || !t.maps[i].Contains(a) || t.maps[i].Perm&procmem.PermWrite != 0 {
		return 0
	}
	f := t.file(t.first(i))
	if f == nil {
		return 0
	}
	n, _ := f.ReadAt(b, int64(t.maps[i].Offset+uint64(a-t.maps[i].Start)))
	return n
}

// section reads a part of the file of a mapping.
func (t *text) section(first int, b []byte, off uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.file(first)
	if f == nil {
		return errNoFile
	}
	if size := uint64(max(f.Size(), 0)); off > size || uint64(len(b)) > size-off {
		return fmt.Errorf("%d bytes at offset %#x of a file of %d", len(b), off, size)
	}
	if n, err := f.ReadAt(b, int64(off)); n < len(b) {
		return err
	}
	return nil
}

// file returns the file of the mapping that begins it, nil if it cannot be had.
func (t *text) file(first int) File {
	m := &t.maps[first]
	if f, ok := t.files[keyOf(m)]; ok {
		return f
	}
	if len(t.files) >= maxFiles {
		t.closeFiles()
	}
	var f File
	if t.open != nil && m.HasFile() {
		var err error
		if f, err = t.open(m); err != nil {
			f = nil
		}
	}
	t.files[keyOf(m)] = f
	return f
}

func (t *text) closeFiles() {
	for _, f := range t.files {
		if f != nil {
			f.Close()
		}
	}
	clear(t.files)
}

// first returns the mapping that begins the file of mapping i, or i itself.
func (t *text) first(i int) int {
	for k := i; k >= 0; k-- {
		switch m := &t.maps[k]; {
		case !m.HasFile() && m.Path == "": // a part that the loader has put in between
		case keyOf(m) != keyOf(&t.maps[i]):
			return i
		case m.Offset == 0:
			return k
		}
	}
	return i
}
