package mappedfile

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
)

// fileKey identifies a mapped file.
type fileKey struct {
	major, minor uint32
	inode        uint64
}

// maxOpen bounds the number of files that are kept open at once. It is more than a program has
// libraries.
const maxOpen = 1024

// Files has the files behind the mappings of a process, which are opened when they are asked
// for. It is safe for concurrent use.
type Files struct {
	of     Process
	reader *fileReader // of files on servers
	mu     sync.Mutex
	open   map[fileKey]File // nil for a file that cannot be opened
}

// New returns the files behind the mappings of a process. Close must be called.
func New(of Process) *Files { return &Files{of: of, reader: &fileReader{of: of}} }

// File returns the file behind m. It returns nil if there is no file, the file is not a regular
// one, or there is no right to open it. It also returns nil if a server does not answer. Once
// release was called, the file must not be read.
func (fs *Files) File(m *procmem.Mapping) (f File, release func()) {
	nop := func() {}
	if !m.HasFile() || m.Special() {
		return nil, nop
	}
	key := fileKey{m.Major, m.Minor, m.Inode}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f, ok := fs.open[key]; ok {
		return f, nop
	}
	f = fs.openFile(m)
	if len(fs.open) >= maxOpen && f != nil {
		return f, func() { f.Close() }
	}
	if fs.open == nil {
		fs.open = make(map[fileKey]File)
	}
	fs.open[key] = f
	return f, nop
}

// openFile opens the file behind m, or returns nil.
func (fs *Files) openFile(m *procmem.Mapping) File {
	f, err := openAny(fs.of.Dir, m, func(w way) (File, error) { return fs.openBy(m, w) })
	if err != nil {
		return nil
	}
	return f
}

func (fs *Files) openBy(m *procmem.Mapping, w way) (File, error) {
	if fs.of.Mounts.Remote(m) || !w.link && fs.of.Mounts.Below(w.name) {
		f := &remoteFile{r: fs.reader, way: w, path: m.Path, inode: m.Inode, held: fs.of.Held}
		return f, f.open()
	}
	f, err := w.open(fs.of.Dir, m.Inode)
	return Local{f}, err
}

// Remote reports whether the file behind a mapping is, or may be, on a server.
func (fs *Files) Remote(m *procmem.Mapping) bool { return fs.of.Mounts.Remote(m) }

// Refused reports whether the kernel refuses to follow the link to a mapped file.
func (fs *Files) Refused(m *procmem.Mapping) bool {
	var (
		st  unix.Stat_t
		err error
	)
	privilege.Raised(func() { err = unix.Fstatat(int(fs.of.Dir.Fd()), mapFile(m), &st, 0) })
	return err == unix.EPERM
}

// Close closes what is open, and leaves the process that reads files on servers.
func (fs *Files) Close() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.open {
		if f != nil {
			f.Close()
		}
	}
	fs.open = nil
	fs.reader.close()
}
