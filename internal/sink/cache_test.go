package sink

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// cachedBytes is how much of a file the page cache holds.
func cachedBytes(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Cachestat_t
	err = unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &st, 0)
	if err == unix.ENOSYS {
		t.Skip("cachestat(2) is of Linux 6.5")
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(st.Cache) * os.Getpagesize()
}

// cold makes a file of which nothing is in the cache but what is about to be,
// or skips where the file system is memory.
func cold(t *testing.T) *File {
	t.Helper()
	f, err := Create(filepath.Join(t.TempDir(), "out"), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Abort)
	if !f.disk {
		t.Skip("the folder for tests is in memory")
	}
	return f
}

func fill(t *testing.T, f *File, size int64) {
	t.Helper()
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i)
	}
	for off := int64(0); off < size; off += int64(len(block)) {
		if _, err := f.WriteAt(block, off); err != nil {
			t.Fatal(err)
		}
	}
}

// noDirect makes a file one of a file system that has no O_DIRECT.
func noDirect(f *File) {
	if f.direct != nil {
		f.direct.Close()
		f.direct = nil
	}
}

// What was written does not stay in the page cache.
func TestCacheIsLeftAsItWas(t *testing.T) {
	const size = 48 << 20
	for _, way := range []string{"around the cache", "without O_DIRECT"} {
		t.Run(way, func(t *testing.T) {
			f := cold(t)
			switch way {
			case "around the cache":
				if f.direct == nil {
					t.Skip("no O_DIRECT here")
				}
			case "without O_DIRECT":
				noDirect(f)
			}
			path := f.path
			fill(t, f, size)
			if n := cachedBytes(t, path+suffix); way == "around the cache" && n > 0 {
				t.Errorf("%d bytes are in the cache before Commit", n)
			}
			if err := f.Commit(); err != nil {
				t.Fatal(err)
			}
			if n := cachedBytes(t, path); n > 0 {
				t.Errorf("%d of %d bytes are in the cache after Commit", n, size)
			}
		})
	}
}

// Neither does it fill the cache while it is written: two windows are there at
// the most, whether the order is that of the file or not.
func TestCacheIsNotFilled(t *testing.T) {
	const size = 4 * cacheWindow
	f := cold(t)
	noDirect(f)
	most := 0
	for off := int64(0); off < size; off += cacheWindow / 2 {
		block := make([]byte, cacheWindow/2)
		for i := range block {
			block[i] = byte(i)
		}
		// The second half of a window before the first.
		if _, err := f.WriteAt(block, off^(cacheWindow/2)); err != nil {
			t.Fatal(err)
		}
		most = max(most, cachedBytes(t, f.path+suffix))
	}
	if most > 5*cacheWindow/2 {
		t.Errorf("%d of %d bytes were in the cache at a time; want %d at most", most, size, 5*cacheWindow/2)
	}
	t.Logf("%d MiB at the most", most>>20)
}
