package core

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
)

// Verify takes no room in the page cache for a core that is on the disk alone. It finds damage
// in a core that is in the cache, partly or not at all.
func TestVerifyLeavesTheCacheAlone(t *testing.T) {
	const size = 16 << 20
	mem := newFake(anon(0x10000, 0x10000+size, rw, ""))
	mem.fill(mem.maps[0].Range)
	img := fakeImage(procmem.AMD64, mem.maps)
	b, w := writeCore(t, img, mem, Select(img, mem, FilterDefault), false, &Report{})
	at := w.l.headRoom // of the memory
	path := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cached := func() int64 {
		var st unix.Cachestat_t
		if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Len: uint64(len(b))}, &st, 0); err != nil {
			t.Skip("cachestat: ", err)
		}
		return int64(st.Cache * procmem.PageSize)
	}
	drop := func() {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	if drop(); cached() > 0 {
		t.Skip("the file system keeps it in memory")
	}
	damaged := func() int {
		c, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		v, err := c.Verify(t.Context(), nil)
		if err != nil || !v.Checked || v.MemoryBytes < size {
			t.Fatalf("%+v, %v", v, err)
		}
		return len(v.Damaged)
	}
	for _, want := range []int{0, 1} {
		if drop(); damaged() != want {
			t.Errorf("on the disk: want %d damaged", want)
		}
		if n := cached(); n > size/4 {
			t.Errorf("%d bytes of it are in the page cache afterwards", n)
		}
		if _, err := f.ReadAt(make([]byte, size/2), 0); err != nil {
			t.Fatal(err)
		}
		if damaged() != want {
			t.Errorf("half in the page cache: want %d damaged", want)
		}
		if _, err := f.WriteAt([]byte{b[at+size/3] + 1}, at+size/3); err != nil {
			t.Fatal(err)
		}
		if damaged() != 1 {
			t.Error("in the page cache, and to be written: want 1 damaged")
		}
	}
}
