package testproc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Fuse is a file system that this process serves: one folder of files in memory. Told to, it
// answers nothing, as a server that is gone (fuse(4), include/uapi/linux/fuse.h). Whoever waits
// for an answer then is in state D, and is not to be killed, once the server has the request.
type Fuse struct {
	Dir string // where it is mounted
	// Discard has it keep of what is written the length alone: who serves its own core would
	// have more of it than can be copied.
	Discard bool
	dev     *os.File

	mu      sync.Mutex
	files   []*fuseFile                       // its node id is the index and 2
	hangs   func(op uint32, node uint64) bool // requests that wait, nil for none
	waiting [][]byte                          // those that do
}

type fuseFile struct {
	name   string // "" once it has none
	data   []byte
	length int // where that is more than data
}

// MountFuse mounts a file system below dir, and serves it until the end of the test. It takes
// root.
func MountFuse(t testing.TB, dir string) *Fuse {
	t.Helper()
	f, err := ServeFuse(dir)
	if err != nil {
		t.Fatalf("testproc: mount FUSE: %v", err)
	}
	t.Cleanup(f.Close)
	return f
}

// ServeFuse is MountFuse for a program that is no test.
func ServeFuse(dir string) (*Fuse, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		if err = unix.Mknod("/dev/fuse", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 229))); err == nil {
			fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("testproc", dir, "fuse.testproc", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		return nil, err
	}
	f := &Fuse{Dir: dir, dev: os.NewFile(uintptr(fd), "/dev/fuse")}
	for range 4 {
		go f.serve()
	}
	return f, nil
}

// Close ends it: whoever waits for an answer gets an error.
func (f *Fuse) Close() {
	unix.Unmount(f.Dir, unix.MNT_DETACH)
	f.Answer()
	f.dev.Close()
}

// Put makes a file, and returns its path.
func (f *Fuse) Put(name string, data []byte) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files = append(f.files, &fuseFile{name: name, data: bytes.Clone(data)})
	return filepath.Join(f.Dir, name)
}

// Hang has reads of the files of that name wait from now on, or, where none is given, every
// request.
func (f *Fuse) Hang(names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hangs = func(op uint32, node uint64) bool {
		file := f.file(node)
		return len(names) == 0 || op == opRead && file != nil && slices.Contains(names, file.name)
	}
}

// Answer answers all requests that wait, and those that come.
func (f *Fuse) Answer() {
	f.mu.Lock()
	waiting := f.waiting
	f.hangs, f.waiting = nil, nil
	f.mu.Unlock()
	for _, req := range waiting {
		f.handle(req)
	}
}

// WaitAsked waits until a request waits for an answer.
func (f *Fuse) WaitAsked(t testing.TB) {
	t.Helper()
	Until(t, "a request", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.waiting) > 0
	})
}

// DropCaches has the kernel forget the pages of all files, so that they are asked for again.
func DropCaches(t testing.TB) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		t.Fatalf("testproc: %v", err)
	}
}

// The requests that it knows.
const (
	opLookup, opForget, opGetattr, opSetattr     = 1, 2, 3, 4
	opUnlink, opRename, opLink, opOpen, opRead   = 10, 12, 13, 14, 15
	opWrite, opStatfs, opRelease, opFsync        = 16, 17, 18, 20
	opFlush, opInit, opOpendir, opReaddir        = 25, 26, 27, 28
	opReleasedir, opCreate, opInterrupt, opBatch = 29, 35, 36, 42
	opRename2                                    = 45
)

func (f *Fuse) serve() {
	buf := make([]byte, 1<<20+4096)
	for {
		n, err := f.dev.Read(buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return
		}
		req := bytes.Clone(buf[:n])
		op := binary.LittleEndian.Uint32(req[4:])
		f.mu.Lock()
		node := binary.LittleEndian.Uint64(req[16:])
		quiet := op == opInterrupt || op == opForget || op == opBatch
		wait := !quiet && f.hangs != nil && f.hangs(op, node)
		if wait {
			f.waiting = append(f.waiting, req)
		}
		f.mu.Unlock()
		if !wait {
			f.handle(req)
		}
	}
}

// reply answers a request.
func (f *Fuse) reply(unique uint64, errno unix.Errno, body []byte) {
	out := make([]byte, 16, 16+len(body))
	binary.LittleEndian.PutUint32(out, uint32(16+len(body)))
	binary.LittleEndian.PutUint32(out[4:], uint32(-int32(errno)))
	binary.LittleEndian.PutUint64(out[8:], unique)
	_, _ = f.dev.Write(append(out, body...)) // ENOENT: nobody waits any more
}

func (f *Fuse) handle(req []byte) {
	le := binary.LittleEndian
	op, unique, node := le.Uint32(req[4:]), le.Uint64(req[8:]), le.Uint64(req[16:])
	body := req[40:]
	f.mu.Lock()
	out, errno := f.answer(op, node, body)
	f.mu.Unlock()
	if op != opForget && op != opBatch && op != opInterrupt {
		f.reply(unique, errno, out)
	}
}

// answer carries out a request.
func (f *Fuse) answer(op uint32, node uint64, in []byte) (out []byte, errno unix.Errno) {
	le := binary.LittleEndian
	file := f.file(node)
	switch op {
	case opInit:
		out = make([]byte, 64)
		le.PutUint32(out, 7)
		le.PutUint32(out[4:], 31)
		le.PutUint32(out[8:], le.Uint32(in[8:])) // max_readahead
		le.PutUint16(out[16:], 16)
		le.PutUint16(out[18:], 12)
		le.PutUint32(out[20:], 1<<17) // max_write
		le.PutUint32(out[24:], 1)
		return out, 0
	case opLookup:
		if i := f.find(cstring(in)); i >= 0 {
			return f.entry(i), 0
		}
		return nil, unix.ENOENT
	case opGetattr:
		return append(make([]byte, 16), f.attr(node)...), 0
	case opSetattr:
		if file != nil && le.Uint32(in)&8 != 0 { // FATTR_SIZE
			if file.length = int(le.Uint64(in[16:])); !f.Discard {
				file.resize(file.length)
			}
		}
		return append(make([]byte, 16), f.attr(node)...), 0
	case opOpen, opOpendir:
		return make([]byte, 16), 0
	case opCreate:
		f.files = append(f.files, &fuseFile{name: cstring(in[16:])})
		return append(f.entry(len(f.files)-1), make([]byte, 16)...), 0
	case opRead:
		at, size := le.Uint64(in[8:]), uint64(le.Uint32(in[16:]))
		if f.Discard {
			return make([]byte, min(size, uint64(file.length)-min(at, uint64(file.length)))), 0
		}
		at = min(at, uint64(len(file.data)))
		return bytes.Clone(file.data[at:min(at+size, uint64(len(file.data)))]), 0
	case opWrite:
		at, size := int(le.Uint64(in[8:])), int(le.Uint32(in[16:]))
		if f.Discard {
			file.length = max(file.length, at+size)
		} else {
			file.resize(max(len(file.data), at+size))
			copy(file.data[at:], in[40:40+size])
		}
		out = make([]byte, 8)
		le.PutUint32(out, uint32(size))
		return out, 0
	case opUnlink:
		if i := f.find(cstring(in)); i >= 0 {
			f.files[i].name = ""
			return nil, 0
		}
		return nil, unix.ENOENT
	case opRename, opRename2:
		head := 8
		if op == opRename2 {
			head = 16
		}
		from := cstring(in[head:])
		to := cstring(in[head+len(from)+1:])
		if i := f.find(to); i >= 0 {
			f.files[i].name = ""
		}
		if i := f.find(from); i >= 0 {
			f.files[i].name = to
			return nil, 0
		}
		return nil, unix.ENOENT
	case opStatfs:
		out = make([]byte, 80)
		for i, v := range []uint64{1 << 24, 1 << 24, 1 << 24, 1 << 20, 1 << 20} {
			le.PutUint64(out[8*i:], v)
		}
		le.PutUint32(out[40:], 4096)
		le.PutUint32(out[44:], 255)
		return out, 0
	case opReaddir, opRelease, opReleasedir, opFlush, opFsync, opForget, opBatch, opInterrupt:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

func cstring(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

func (f *Fuse) file(node uint64) *fuseFile {
	if node < 2 || node-2 >= uint64(len(f.files)) {
		return nil
	}
	return f.files[node-2]
}

func (f *Fuse) find(name string) int {
	for i, file := range f.files {
		if name != "" && file.name == name {
			return i
		}
	}
	return -1
}

func (file *fuseFile) resize(n int) {
	if n <= len(file.data) {
		file.data = file.data[:n]
		return
	}
	file.data = append(file.data, make([]byte, n-len(file.data))...)
}

// entry is the answer to a lookup. Names are valid for long, attributes are not.
func (f *Fuse) entry(i int) []byte {
	out := make([]byte, 40)
	binary.LittleEndian.PutUint64(out, uint64(i+2))
	binary.LittleEndian.PutUint64(out[16:], 3600)
	return append(out, f.attr(uint64(i+2))...)
}

func (f *Fuse) attr(node uint64) []byte {
	le := binary.LittleEndian
	out := make([]byte, 88)
	le.PutUint64(out, node)
	mode, size := uint32(unix.S_IFDIR|0o755), 0
	if file := f.file(node); file != nil {
		mode, size = unix.S_IFREG|0o755, max(len(file.data), file.length)
	}
	le.PutUint64(out[8:], uint64(size))
	le.PutUint64(out[16:], uint64(size+511)/512)
	le.PutUint32(out[60:], mode)
	le.PutUint32(out[64:], 1)
	le.PutUint32(out[80:], 4096)
	return out
}
