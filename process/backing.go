package process

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/regular"
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
	f, st, err := b.openLink(mapFile(m))
	if err != nil && b.executable() == m.Path { // also without a name, and without a capability
		f, st, err = b.openLink("exe")
	}
	if err != nil && !m.Deleted() && strings.HasPrefix(m.Path, "/") {
		f, st, err = b.openPath(m.Path)
	}
	if err != nil && strings.HasPrefix(m.Path, "/memfd:") {
		f, st, err = b.openDescriptor(m)
	}
	if err != nil {
		return nil
	}
	if st.Ino != m.Inode {
		f.Close()
		return nil
	}
	return f
}

// maxDescriptors bounds how many descriptors are looked at for one file.
const maxDescriptors = 4096

// openDescriptor opens a memfd that the process has open.
func (b *backing) openDescriptor(m *procmem.Mapping) (*os.File, *unix.Stat_t, error) {
	dir, err := openAt(b.dir, "fd", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxDescriptors)
	for _, name := range names {
		if !strings.HasPrefix(b.readLink("fd/"+name), "/memfd:") {
			continue
		}
		f, st, err := b.openLink("fd/" + name)
		if err == nil && st.Ino == m.Inode {
			return f, st, nil
		}
		if err == nil {
			f.Close()
		}
	}
	return nil, nil, unix.ENOENT
}

// openLink opens the file behind a link of /proc.
func (b *backing) openLink(name string) (f *os.File, st *unix.Stat_t, err error) {
	privilege.Raised(func() { f, st, err = regular.Open(int(b.dir.Fd()), name) })
	return f, st, err
}

// executable returns the name of the executable as maps has it.
func (b *backing) executable() string { return b.readLink("exe") }

// readLink returns where a link of /proc leads to, "" where that is not told.
func (b *backing) readLink(link string) (name string) {
	buf := make([]byte, unix.PathMax)
	privilege.Raised(func() {
		if n, err := unix.Readlinkat(int(b.dir.Fd()), link, buf); err == nil {
			name = string(buf[:n])
		}
	})
	return name
}

// openPath opens a file as the process would, with the rights of the user:
// what is there now is for the process to say.
func (b *backing) openPath(path string) (*os.File, *unix.Stat_t, error) {
	root, err := openAt(b.dir, "root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	return regular.OpenBelow(int(root.Fd()), path)
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
