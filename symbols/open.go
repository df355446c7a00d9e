package symbols

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elffile"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/regular"
)

// Reasons why the file of a mapping cannot be had.
var (
	errNoFile  = errors.New("not a regular file that has a name")
	errChanged = errors.New("the file is not the one that is mapped")
)

// OfProcess returns an Opener of the files of a running process as it sees them, in its own
// mount namespace. With CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN it opens files without a name
// too. mem is the memory of the process.
func OfProcess(pid int, mem procmem.Memory) Opener {
	return func(m *procmem.Mapping) (File, error) {
		if m.Path == vdso {
			return memoryFile{mem, m.Range}, nil
		}
		if s, ok := mem.(server); ok {
			if f, served := s.Served(m); served {
				switch {
				case f == nil:
					return nil, errNoFile
				case !sameFile(f, mem, m):
					return nil, errChanged
				}
				return f, nil
			}
		}
		ways := []func() (*file, error){func() (f *file, err error) {
			privilege.Raised(func() {
				f, err = newFile(regular.Open(unix.AT_FDCWD, privilege.ProcPath(pid, "map_files", fmt.Sprintf("%x-%x", uint64(m.Start), uint64(m.End)))))
			})
			return f, err
		}}
		if !m.Deleted() {
			ways = append(ways, func() (*file, error) { return openBelowRoot(pid, m.Path) })
		}
		err := errNoFile
		for _, open := range ways {
			var f *file
			if f, err = open(); err != nil {
				continue
			}
			if f.inode == m.Inode && sameFile(f, mem, m) {
				return f, nil
			}
			f.Close()
			err = errChanged
		}
		return nil, err
	}
}

// openBelowRoot opens a file as the process would, with the rights of the user: what is there
// now is for the process to say.
func openBelowRoot(pid int, path string) (*file, error) {
	var root int
	var err error
	privilege.Raised(func() {
		root, err = unix.Open(privilege.ProcPath(pid, "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	return newFile(regular.OpenBelow(root, path))
}

// server is a memory that itself opens files on a server. Opening such a file may take for
// ever.
type server interface {
	Served(m *procmem.Mapping) (f interface {
		io.ReaderAt
		io.Closer
		Size() int64
	}, served bool)
}

// OfCore returns an Opener of files of this machine that have the build ids of those in a core,
// as Find finds them. mem is the memory of the core.
func OfCore(mem procmem.Memory) Opener {
	return func(m *procmem.Mapping) (File, error) {
		if m.Path == vdso {
			return memoryFile{mem, m.Range}, nil
		}
		f, err := Find(mem, m)
		if err != nil {
			return nil, err
		}
		if f.BuildID == nil {
			f.Close()
			return nil, errChanged
		}
		return f, nil
	}
}

type file struct {
	*os.File
	size  int64
	inode uint64
}

func (f *file) Size() int64 { return f.size }

func newFile(f *os.File, st *unix.Stat_t, err error) (*file, error) {
	if err != nil {
		return nil, err
	}
	return &file{f, st.Size, st.Ino}, nil
}

// memoryFile is an ELF file that is in memory as it would be on a disk.
type memoryFile struct {
	mem procmem.Memory
	r   procmem.Range
}

func (f memoryFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || uint64(off) >= f.r.Size() {
		return 0, io.EOF
	}
	short := uint64(len(p)) > f.r.Size()-uint64(off)
	n, err := f.mem.ReadAt(p[:min(uint64(len(p)), f.r.Size()-uint64(off))], f.r.Start+procmem.Addr(off))
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (f memoryFile) Size() int64 { return int64(min(f.r.Size(), math.MaxInt64)) }
func (memoryFile) Close() error  { return nil }

// sameFile compares a file with what is in memory of it, where m begins: the
// headers and the build id. What cannot be seen in memory tells nothing.
func sameFile(f File, mem procmem.Memory, m *procmem.Mapping) bool {
	if m.Offset != 0 {
		return true
	}
	onDisk, err := fileIdentity(f)
	if err != nil {
		return false
	}
	inMemory, err := mappedIdentity(mem, m)
	return err != nil || onDisk.equal(inMemory)
}

// identity is what tells one build of a file from another.
type identity struct{ headers, buildID []byte }

func (id identity) equal(other identity) bool {
	return bytes.Equal(id.headers, other.headers) && bytes.Equal(id.buildID, other.buildID)
}

func fileIdentity(f File) (identity, error) {
	return identityOf(f, f.Size(), func(s elffile.Segment) uint64 { return s.Off })
}

// mappedIdentity reads that of the file that m begins, as it is in memory.
func mappedIdentity(mem procmem.Memory, m *procmem.Mapping) (identity, error) {
	return identityOf(memoryFile{mem, procmem.Range{Start: m.Start, End: math.MaxUint64}}, math.MaxInt64, nil)
}

// identityOf reads it. where is the place of a segment in r; nil where r is
// memory.
func identityOf(r io.ReaderAt, size int64, where func(elffile.Segment) uint64) (identity, error) {
	f, err := elffile.Open(r, size)
	if err != nil {
		return identity{}, err
	}
	segs, err := f.Segments()
	if err != nil {
		return identity{}, err
	}
	if where == nil {
		base, ok := (&object{loads: loadsOf(segs)}).address(0)
		if !ok {
			return identity{}, elffile.ErrNotELF
		}
		where = func(s elffile.Segment) uint64 { return s.Addr - base }
	}
	var id identity
	notes := 0
	if id.headers, err = f.ProgramHeaders(); err != nil {
		return identity{}, err
	}
	for _, s := range segs {
		if s.Type != elf.PT_NOTE || s.FileSize > elffile.MaxNotes {
			continue
		}
		if notes++; notes > elffile.MaxNoteSegments {
			break
		}
		b, err := f.Part(where(s), s.FileSize)
		if err != nil {
			return identity{}, err
		}
		if id.buildID = elffile.BuildID(b); id.buildID != nil {
			break
		}
	}
	return id, nil
}

// loadsOf returns the segments that are loaded.
func loadsOf(segs []elffile.Segment) []elffile.Segment {
	var loads []elffile.Segment
	for _, s := range segs {
		if s.Type == elf.PT_LOAD && len(loads) < maxLoads {
			loads = append(loads, s)
		}
	}
	return loads
}
