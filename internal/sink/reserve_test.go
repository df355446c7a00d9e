package sink

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk returns an ext4 of this size in a file, which is gone with the
// test.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	// Neither room that is for root alone nor tables that are made later.
	mkfs := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", "-N", "128", "-E", "lazy_itable_init=0,nodiscard", image)
	if out, err := mkfs.CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-d", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// free is the room in a folder, but for what an ext4 keeps for itself.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// room returns when a folder has its room again: an ext4 counts what was freed
// when it has written that down.
func room(t *testing.T, dir string, want int64) {
	t.Helper()
	fd, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	if err := unix.Syncfs(int(fd.Fd())); err != nil {
		t.Fatal(err)
	}
	if got := free(t, dir); got < want-slack || got > want+slack {
		t.Errorf("%d bytes are free; want %d", got, want)
	}
}

// slack is what a file system needs for itself: blocks that list extents,
// and folders.
const slack = 64 << 10

func TestReserve(t *testing.T) {
	const size = 256 << 20
	dir := smallDisk(t, size)
	path := filepath.Join(dir, "out")
	before := free(t, dir)
	if before < 2*reserveStep+reserveStep/2 {
		t.Fatalf("a new disk of %d bytes has room for %d", size, before)
	}

	t.Run("too much", func(t *testing.T) {
		f, err := Create(path, false)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Abort()
		if err := f.Reserve(before + 1<<20); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%v; want ENOSPC", err)
		}
		room(t, dir, before)
	})

	t.Run("nobody else can take it", func(t *testing.T) {
		const rest = 8 << 20
		f, err := Create(path, false)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Abort()
		if err := f.Reserve(before - rest); err != nil {
			t.Fatal(err)
		}
		room(t, dir, rest)
		other := filepath.Join(dir, "other")
		if err := os.WriteFile(other, make([]byte, 2*rest), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("another file of %d bytes: %v", 2*rest, err)
		}
		if err := os.Remove(other); err != nil {
			t.Fatal(err)
		}
		f.Abort()
		room(t, dir, before)
	})

	// The room is given back before it is needed, and the file may be as large
	// as what was reserved, on a disk that has not more.
	for _, around := range []bool{false, true} {
		t.Run(fmt.Sprintf("written, around the cache %v", around), func(t *testing.T) {
			f, err := Create(path, false)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Abort()
			if !around {
				noDirect(f)
			} else if f.direct == nil {
				t.Skip("no O_DIRECT here")
			}
			want := (before - 1<<20) &^ (1<<20 - 1)
			if err := f.Reserve(want); err != nil {
				t.Fatal(err)
			}
			if f.room == nil {
				t.Fatal("nothing is reserved")
			}
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = byte(i)
			}
			for off := int64(0); off < want; off += int64(len(block)) {
				if _, err := f.WriteAt(block, off); err != nil {
					t.Fatalf("at %d of %d: %v", off, want, err)
				}
				if has := f.room.has; has > want-off-int64(len(block)) {
					t.Fatalf("behind %d of %d bytes %d are still reserved", off, want, has)
				}
			}
			if err := f.Commit(); err != nil {
				t.Fatal(err)
			}
			room(t, dir, before-want)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			room(t, dir, before)
		})
	}

	// What was not needed, as all that became holes, is free again.
	t.Run("not needed", func(t *testing.T) {
		for _, commit := range []bool{true, false} {
			f, err := Create(path, false)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Abort()
			if err := f.Reserve(before - 2*slack); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(make([]byte, 1<<20), 0); err != nil {
				t.Fatal(err)
			}
			if !commit {
				f.Abort()
				room(t, dir, before)
				continue
			}
			if err := f.Commit(); err != nil {
				t.Fatal(err)
			}
			room(t, dir, before-1<<20)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	})

	t.Run("folder", func(t *testing.T) {
		d, err := CreateDir(path, func(string) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		defer d.Abort()
		if err := d.Reserve(before + 1<<20); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%v; want ENOSPC", err)
		}
		const half = 2 * reserveStep
		if err := d.Reserve(half); err != nil {
			t.Fatal(err)
		}
		room(t, dir, before-half)
		f, err := d.File("a", half)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 1<<20), 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if d.room.has > half-1<<20 {
			t.Errorf("%d bytes are still reserved", d.room.has)
		}
		d.Abort()
		room(t, dir, before)
	})
}

// Memory is not taken in advance: there it is used, not promised. Neither is
// nothing.
func TestNoReserve(t *testing.T) {
	for dir, n := range map[string]int64{"/dev/shm": 4 * reserveStep, t.TempDir(): 0} {
		before := free(t, dir)
		f, err := Create(filepath.Join(dir, fmt.Sprintf("procmem-test-%d", os.Getpid())), false)
		if err != nil {
			t.Skip(err)
		}
		defer f.Abort()
		if err := f.Reserve(n); err != nil || f.room != nil {
			t.Errorf("%s: %v, of %d bytes free", dir, err, before)
		}
		if _, err := f.WriteAt([]byte{1}, 0); err != nil {
			t.Error(err)
		}
	}
}
