package process

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
)

// fileKey identifies a mapped file.
type fileKey struct {
	major, minor uint32
	inode        uint64
}

// maxBacking bounds how many files are kept open at once: more than a program
// has libraries.
const maxBacking = 1024

// backing opens the files behind mappings, to see what they hold without
// touching a page of the target.
type backing struct {
	dir  *os.File // of /proc, as of the process
	mu   sync.Mutex
	open map[fileKey]*os.File // nil where it cannot be opened
}

// file returns the file behind m, or nil where it cannot be had: no file, not
// a regular one, no right to open it. release must be called when done.
func (b *backing) file(m *procmem.Mapping) (f *os.File, release func()) {
	nop := func() {}
	if !m.HasFile() || m.Special() {
		return nil, nop
	}
	key := fileKey{m.Major, m.Minor, m.Inode}
	b.mu.Lock()
	defer b.mu.Unlock()
	if f, ok := b.open[key]; ok {
		return f, nop
	}
	f = b.openFile(m)
	if len(b.open) >= maxBacking && f != nil {
		return f, func() { f.Close() }
	}
	if b.open == nil {
		b.open = make(map[fileKey]*os.File)
	}
	b.open[key] = f
	return f, nop
}

func (b *backing) openFile(m *procmem.Mapping) *os.File {
	// map_files is exact, also for files without a name; it takes
	// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
	if f := b.openRegular(mapFile(m), m); f != nil {
		return f
	}
	if b.executable() == m.Path { // also without a name, and without a capability
		if f := b.openRegular("exe", m); f != nil {
			return f
		}
	}
	if m.Deleted() || !strings.HasPrefix(m.Path, "/") {
		return nil
	}
	return b.openRegular("root"+m.Path, m)
}

// executable returns the name of the executable as maps has it.
func (b *backing) executable() string {
	name := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(b.dir.Fd()), "exe", name)
	if err != nil {
		return ""
	}
	return string(name[:n])
}

// openRegular opens a regular file that is the one of the mapping. A device
// is never opened: that could have an effect.
func (b *backing) openRegular(name string, m *procmem.Mapping) *os.File {
	var st unix.Stat_t
	if err := unix.Fstatat(int(b.dir.Fd()), name, &st, 0); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	if st.Ino != m.Inode {
		return nil
	}
	f, err := openAt(b.dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil
	}
	var opened unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &opened); err != nil || opened.Ino != st.Ino || opened.Dev != st.Dev {
		f.Close()
		return nil
	}
	return f
}

func (b *backing) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.open {
		if f != nil {
			f.Close()
		}
	}
	b.open = nil
}
