package testproc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
)

// StuckFile mounts a file system (FUSE), and returns a file of it that can be looked at and
// opened, and is never read. Whoever reads it waits until release is called. That must be
// before helpers that wait are ended (defer it). A process that does not matter otherwise is
// reading one page of the file already. So whoever maps the file waits as well, in state D and
// with its address space locked. The test is skipped where nothing can be mounted.
func StuckFile(t testing.TB) (path string, release func()) {
	t.Helper()
	dev, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("/dev/fuse: %v", err)
	}
	dir, err := os.MkdirTemp("", "procmem-stuck-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", dev)
	if err := syscall.Mount("stuck", dir, "fuse", syscall.MS_NOSUID|syscall.MS_NODEV, options); err != nil {
		_ = syscall.Close(dev)
		t.Skipf("mount a file system: %v", err)
	}
	s := &stuckFS{dev: dev, reading: make(chan struct{})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.serve()
	}()
	var released atomic.Bool
	release = func() {
		if !released.Swap(true) {
			// The kernel ends all requests, and the loop with ENODEV.
			_ = syscall.Unmount(dir, syscall.MNT_FORCE|syscall.MNT_DETACH)
			<-served
			_ = syscall.Close(dev)
		}
	}
	t.Cleanup(release)
	path = filepath.Join(dir, stuckName)
	reader := exec.Command("dd", "if="+path, "of=/dev/null", "bs=4096", "count=1")
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { release(); _ = reader.Wait() })
	<-s.reading
	return path, release
}

const stuckName = "file"

// stuckFS is a file system of one file (include/uapi/linux/fuse.h).
type stuckFS struct {
	dev     int
	opened  int
	reading chan struct{} // closed when the first page is asked for
	read    bool
}

const (
	fuseLookup, fuseForget, fuseGetattr, fuseOpen, fuseRead = 1, 2, 3, 14, 15
	fuseRelease, fuseFlush, fuseInit, fuseOpendir           = 18, 25, 26, 27
	fuseReleasedir, fuseAccess, fuseInterrupt, fuseBatch    = 29, 34, 36, 42
)

func (s *stuckFS) serve() {
	buf := make([]byte, 1<<17)
	for {
		n, err := syscall.Read(s.dev, buf)
		switch {
		case err == syscall.EINTR || err == syscall.EAGAIN || err == syscall.ENOENT:
			continue
		case err != nil || n < 40:
			return
		}
		le := binary.LittleEndian
		s.answer(le.Uint32(buf[4:]), le.Uint64(buf[8:]), le.Uint64(buf[16:]), buf[40:n])
	}
}

func (s *stuckFS) answer(op uint32, unique, node uint64, in []byte) {
	switch op {
	case fuseForget, fuseBatch, fuseInterrupt:
	case fuseInit:
		// Version 7.31, and nothing optional.
		s.reply(unique, 0, []uint32{7, 31, 0, 0, 0, 1 << 16, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	case fuseLookup:
		if string(bytes.TrimRight(in, "\x00")) != stuckName {
			s.reply(unique, syscall.ENOENT, nil)
			return
		}
		s.reply(unique, 0, append([]uint32{2, 0, 0, 0, 3600, 0, 3600, 0, 0, 0}, attributes(2)...))
	case fuseGetattr:
		s.reply(unique, 0, append([]uint32{3600, 0, 0, 0}, attributes(node)...))
	case fuseOpen:
		// Who opens it first reads it through the page cache, where the page stays locked. The
		// others read past it, and throw away what is in it when they map the file; not when
		// they open it.
		const directIO, keepCache = 1, 2
		flags := uint32(keepCache)
		if s.opened++; s.opened > 1 {
			flags |= directIO
		}
		s.reply(unique, 0, []uint32{0, 0, flags, 0})
	case fuseOpendir:
		s.reply(unique, 0, []uint32{0, 0, 0, 0})
	case fuseRead:
		if !s.read {
			s.read = true
			close(s.reading)
		}
	case fuseRelease, fuseReleasedir, fuseFlush, fuseAccess:
		s.reply(unique, 0, nil)
	default:
		s.reply(unique, syscall.ENOSYS, nil)
	}
}

// attributes is struct fuse_attr.
func attributes(node uint64) []uint32 {
	mode, size := uint32(syscall.S_IFDIR|0o755), uint32(0)
	if node == 2 {
		mode, size = syscall.S_IFREG|0o644, 1<<20
	}
	return []uint32{uint32(node), 0, size, 0, size / 512, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0}
}

func (s *stuckFS) reply(unique uint64, e syscall.Errno, words []uint32) {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, uint32(16+4*len(words)))
	_ = binary.Write(&b, binary.LittleEndian, -int32(e))
	_ = binary.Write(&b, binary.LittleEndian, unique)
	_ = binary.Write(&b, binary.LittleEndian, words)
	_, _ = syscall.Write(s.dev, b.Bytes())
}
