package mappedfile

import (
	"errors"
	"fmt"
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

// maxBacking bounds the number of files that are kept open at once. It is more than a program
// has libraries.
const maxBacking = 1024

// Files has the files behind mappings, to see what they hold without touching a page of the
// target.
type Files struct {
	of     Process
	reader *fileReader // of files on servers
	mu     sync.Mutex
	open   map[fileKey]File // nil for a file that cannot be opened
}

// New returns the files behind the mappings of a process. Close must be called.
func New(of Process) *Files { return &Files{of: of, reader: &fileReader{of: of}} }

// File returns the file behind m. It returns nil where there is no file, the file is not a
// regular one, or there is no right to open it. release must be called when done.
func (b *Files) File(m *procmem.Mapping) (f File, release func()) {
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
		b.open = make(map[fileKey]File)
	}
	b.open[key] = f
	return f, nop
}

// openFile tries all ways to a file. It gives up where a server does not answer.
func (b *Files) openFile(m *procmem.Mapping) File {
	// map_files is exact, even for files without a name. It takes CAP_CHECKPOINT_RESTORE or
	// CAP_SYS_ADMIN.
	f, err := b.openBy(m, way{name: mapFile(m), link: true})
	goOn := func() bool { return err != nil && !errors.Is(err, ErrNoAnswer) }
	if goOn() && executable(b.of.Dir) == m.Path { // works without a name, too, and without a capability
		f, err = b.openBy(m, way{name: "exe", link: true})
	}
	if goOn() && !m.Deleted() && strings.HasPrefix(m.Path, "/") {
		f, err = b.openBy(m, way{name: m.Path})
	}
	if goOn() && strings.HasPrefix(m.Path, "/memfd:") {
		f, err = b.openDescriptor(m)
	}
	if err != nil {
		return nil
	}
	return f
}

// maxDescriptors bounds how many descriptors are looked at for one file.
const maxDescriptors = 4096

// openDescriptor opens a memfd that the process has open.
func (b *Files) openDescriptor(m *procmem.Mapping) (File, error) {
	dir, err := privilege.OpenAt(b.of.Dir, "fd", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxDescriptors)
	for _, name := range names {
		if !strings.HasPrefix(linkOf(b.of.Dir, "fd/"+name), "/memfd:") {
			continue
		}
		if f, err := (way{name: "fd/" + name, link: true}).open(b.of.Dir, m.Inode); err == nil {
			return Local{f}, nil
		}
	}
	return nil, unix.ENOENT
}

func (b *Files) openBy(m *procmem.Mapping, w way) (File, error) {
	if b.of.Mounts.Remote(m) || !w.link && b.of.Mounts.Below(w.name) {
		f := &remoteFile{r: b.reader, way: w, path: m.Path, inode: m.Inode, held: b.of.Held}
		return f, f.open()
	}
	f, err := w.open(b.of.Dir, m.Inode)
	return Local{f}, err
}

// way is a way to the file behind a mapping: a link below /proc/PID, or a path below the root
// of the process.
type way struct {
	name string
	link bool
}

// open opens the file. It fails with ESTALE where that is not the file of the mapping.
func (w way) open(dir *os.File, inode uint64) (*os.File, error) {
	open := openPath
	if w.link {
		open = openLink
	}
	f, st, err := open(dir, w.name)
	if err != nil {
		return nil, err
	}
	if st.Ino != inode {
		f.Close()
		return nil, unix.ESTALE
	}
	return f, nil
}

// mapFile returns the name of the link to the mapped file below /proc/PID. Following it takes
// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
func mapFile(m *procmem.Mapping) string {
	return fmt.Sprintf("map_files/%x-%x", uint64(m.Start), uint64(m.End))
}

// openLink opens the file behind a link of /proc.
func openLink(dir *os.File, name string) (f *os.File, st *unix.Stat_t, err error) {
	privilege.Raised(func() { f, st, err = regular.Open(int(dir.Fd()), name) })
	return f, st, err
}

// executable returns the name of the executable as maps has it.
func executable(dir *os.File) string { return linkOf(dir, "exe") }

// linkOf returns the target of a link of /proc, or "" where the kernel does not tell.
func linkOf(dir *os.File, link string) string {
	name, err := privilege.ReadLink(dir, link)
	if err != nil {
		return ""
	}
	return name
}

// openPath opens a file as the process would, with the rights of the user, because the process
// decides what is there now.
func openPath(dir *os.File, path string) (*os.File, *unix.Stat_t, error) {
	root, err := privilege.OpenAt(dir, "root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	return regular.OpenBelow(int(root.Fd()), path)
}

// Close closes what is open, and leaves the process that reads files on servers.
func (b *Files) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.open {
		if f != nil {
			f.Close()
		}
	}
	b.open = nil
	b.reader.close()
}

// Remote reports whether the file behind a mapping is, or may be, on a server.
func (b *Files) Remote(m *procmem.Mapping) bool { return b.of.Mounts.Remote(m) }

// Refused reports whether the kernel refuses to follow the link to a mapped file.
func (b *Files) Refused(m *procmem.Mapping) bool {
	var (
		st  unix.Stat_t
		err error
	)
	privilege.Raised(func() { err = unix.Fstatat(int(b.of.Dir.Fd()), mapFile(m), &st, 0) })
	return err == unix.EPERM
}
