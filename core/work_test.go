package core

import (
	"debug/elf"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elfcore"
)

// everywhere reads the same page at each address, and counts.
type everywhere struct {
	page []byte
	read int
}

func (m *everywhere) Mappings() ([]procmem.Mapping, error) { return nil, nil }

func (m *everywhere) ReadAt(p []byte, a procmem.Addr) (int, error) {
	m.read += len(p)
	for n := 0; n < len(p); {
		n += copy(p[n:], m.page[uint64(a+procmem.Addr(n))%page:])
	}
	return len(p), nil
}

// processorTime is what this process has had so far: a busy machine does not count.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A process may map a file ten thousand times, whose headers name notes that are missing or as
// large as notes may be. That is no endless work.
func TestWorkOfIdentity(t *testing.T) {
	const n = 10_000
	for what, off := range map[string]uint64{"in the page": 0, "nowhere": 1 << 40} {
		b := elfcore.AppendHeader(nil, elf.ELFCLASS64, elf.EM_X86_64, 70, 64)
		for range 70 {
			b = elfcore.AppendProgHeader(b, elf.ELFCLASS64, elf.ProgHeader{Type: elf.PT_NOTE, Off: off, Filesz: maxIdentityNote})
		}
		mem := &everywhere{page: append(b, make([]byte, page-len(b))...)}
		img := &procmem.Image{Arch: procmem.AMD64}
		for i := range n {
			// 32 pages each, so that a note of 64 KiB is all in it.
			at := procmem.Addr(i+1) << 20
			img.Mappings = append(img.Mappings, procmem.Mapping{Range: procmem.Range{Start: at, End: at + 32*page},
				Perm: procmem.PermRead, Inode: 7, Path: "/file"})
		}
		began := processorTime()
		Select(img, mem, FilterDefault)
		if took := processorTime() - began; took > 30*time.Second { // it is some tenths of a second, or minutes
			t.Errorf("%s: took %v", what, took)
		}
		if most := n*page + maxIdentityRead; mem.read > most {
			t.Errorf("%s: %d bytes were read, of %d that may be", what, mem.read, most)
		}
	}
}
