package dirty

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// A mapping that gives place to a larger one, just when it begins to be
// tracked, is not cut in two.
func TestCoverCutsNothing(t *testing.T) {
	self, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	uffd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|sys.UserModeOnly, 0, 0)
	if e != 0 {
		t.Skip(e)
	}
	defer unix.Close(int(uffd))
	tr, err := New(self, int(uffd), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if _, err := sys.MappingAt(tr.boundaries.maps.Fd(), uint64(uintptr(unsafe.Pointer(&uffd)))); err == unix.ENOTTY {
		t.Skip("the kernel does not tell the edges of a mapping")
	}

	const size = 1 << 20
	room := mmap(t, nil, 4*size, unix.PROT_NONE, 0)
	defer unix.MunmapPtr(room, 4*size)
	at := unsafe.Add(room, size)
	small := procmem.Range{Start: procmem.Addr(uintptr(at)), End: procmem.Addr(uintptr(at)) + size}
	large := procmem.Range{Start: small.Start, End: small.End + size}
	begin, done := make(chan struct{}), make(chan struct{})
	go func() {
		for range begin {
			mmap(t, at, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_FIXED)
			done <- struct{}{}
		}
	}()
	defer close(begin)
	tracked := 0
	for range 3000 {
		mmap(t, at, 2*size, unix.PROT_NONE, unix.MAP_FIXED)
		mmap(t, at, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_FIXED)
		begin <- struct{}{}
		tr.cover(small)
		<-done
		if !tr.boundaries.are(large) {
			t.Fatal("it was not mapped")
		}
		if m, err := sys.MappingAt(tr.boundaries.maps.Fd(), uint64(large.Start)); err != nil || m.End != uint64(large.End) {
			t.Fatalf("cut: %+v, %v; want %v", m, err, large)
		}
		if tr.tracks(large.Start) {
			tracked++
		}
	}
	t.Logf("tracked %d times", tracked)
}

func mmap(t *testing.T, at unsafe.Pointer, size uintptr, prot, flags int) unsafe.Pointer {
	p, err := unix.MmapPtr(-1, 0, at, size, prot, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|flags)
	if err != nil {
		t.Error(err)
	}
	return p
}
