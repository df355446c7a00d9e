package sink

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/sys"
)

// output is what a File and a Dir have in common: what is begun under a
// partial name, and gets its name when it is whole.
type output struct {
	name   string
	create func(path string) (commit func() error, abort func(), err error)
	mode   os.FileMode
	// what others may leave in the way
	stale func(partial string) error
}

var outputs = []output{
	{"file", func(path string) (func() error, func(), error) {
		f, err := Create(path, false)
		if err != nil {
			return nil, nil, err
		}
		_, err = f.WriteAt([]byte("new"), 0)
		return f.Commit, f.Abort, err
	}, 0o600, func(partial string) error {
		return os.WriteFile(partial, bytes.Repeat([]byte("stale"), 1000), 0o644)
	}},
	{"folder", func(path string) (func() error, func(), error) {
		d, err := CreateDir(path, func(name string) bool { return name == "stale" })
		if err != nil {
			return nil, nil, err
		}
		return d.Commit, d.Abort, os.WriteFile(filepath.Join(d.Partial(), "f"), []byte("new"), 0o600)
	}, os.ModeDir | 0o700, func(partial string) error {
		return errors.Join(os.Mkdir(partial, 0o755), os.WriteFile(partial+"/stale", nil, 0o644))
	}},
}

func forEach(t *testing.T, f func(t *testing.T, o output, path string)) {
	for _, o := range outputs {
		t.Run(o.name, func(t *testing.T) { f(t, o, filepath.Join(t.TempDir(), "out")) })
	}
}

// forEachDisk is forEach on file systems that lack what rename would use, too.
func forEachDisk(t *testing.T, f func(t *testing.T, o output, path string)) {
	real, realLink := noReplace, link
	defer func() { noReplace, link = real, realLink }()
	t.Run("all", func(t *testing.T) { forEach(t, f) })
	noReplace = func(from, to string) error { return unix.EINVAL }
	t.Run("no flag", func(t *testing.T) { forEach(t, f) })
	link = func(from, to string) error { return unix.EPERM }
	t.Run("no links", func(t *testing.T) { forEach(t, f) })
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// content returns all that is at a path.
func content(t *testing.T, path string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(path, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			out = append(out, string(b))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, ",")
}

func TestNameAppearsWithCommit(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	forEachDisk(t, func(t *testing.T, o output, path string) {
		commit, _, err := o.create(path)
		if err != nil {
			t.Fatal(err)
		}
		fi, err := os.Lstat(path + suffix)
		if err != nil || fi.Mode() != o.mode || exists(path) {
			t.Fatalf("before Commit: %v, %v, %v; want %v and no %s", fi, err, exists(path), o.mode, path)
		}
		if err := commit(); err != nil {
			t.Fatal(err)
		}
		fi, err = os.Lstat(path)
		if err != nil || fi.Mode() != o.mode || exists(path+suffix) || content(t, path) != "new" {
			t.Errorf("after Commit: %v, %v; want %v and no %s", fi, err, o.mode, path+suffix)
		}
	})
}

func TestAbortLeavesNothing(t *testing.T) {
	forEach(t, func(t *testing.T, o output, path string) {
		_, abort, err := o.create(path)
		if err != nil {
			t.Fatal(err)
		}
		abort()
		if exists(path) || exists(path+suffix) {
			t.Error("something is left")
		}
	})
}

func TestNoOverwriting(t *testing.T) {
	forEach(t, func(t *testing.T, o output, path string) {
		if err := o.stale(path); err != nil { // anything
			t.Fatal(err)
		}
		before := content(t, path)
		if _, _, err := o.create(path); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), path) {
			t.Fatalf("create: %v; want %v and the name", err, os.ErrExist)
		}
		if content(t, path) != before || exists(path+suffix) {
			t.Error("a refusal has changed something")
		}
	})
}

// A device, a pipe, or what a link leads to, has others who use it: it is not
// replaced, not even by force.
func TestOnlyFilesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	for what, create := range map[string]func(path string) error{
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":          func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a symbolic link": func(path string) error { return os.Symlink(os.DevNull, path) },
		"a socket":        func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) },
	} {
		path := filepath.Join(dir, what)
		if err := create(path); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, force := range []bool{false, true} {
			if f, err := Create(path, force); err == nil {
				f.Abort()
				t.Errorf("%s can be replaced (force %v)", what, force)
			} else if !strings.Contains(err.Error(), "it is "+what) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if now, err := os.Lstat(path); err != nil || !os.SameFile(before, now) || exists(path+suffix) {
			t.Errorf("%s: %v; a refusal has changed something", what, err)
		}
	}
	if _, err := Create(os.DevNull, true); err == nil || !strings.Contains(err.Error(), "it is a device") {
		t.Errorf("%s: %v", os.DevNull, err)
	}
}

// The name itself fits, and the one until then does not.
func TestLongName(t *testing.T) {
	if _, err := Create(filepath.Join(t.TempDir(), strings.Repeat("x", 250)), false); !errors.Is(err, unix.ENAMETOOLONG) || !strings.Contains(err.Error(), suffix) {
		t.Errorf("%v; want %v and %q", err, unix.ENAMETOOLONG, suffix)
	}
}

// The name is taken by somebody else while the output is written.
func TestNameIsTakenMeanwhile(t *testing.T) {
	forEachDisk(t, func(t *testing.T, o output, path string) {
		commit, abort, err := o.create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.stale(path); err != nil {
			t.Fatal(err)
		}
		before := content(t, path)
		if err := commit(); !errors.Is(err, os.ErrExist) {
			t.Errorf("commit: %v; want %v", err, os.ErrExist)
		}
		abort() // as a deferred one would
		if content(t, path) != before || exists(path+suffix) {
			t.Error("the other's is changed, or something is left")
		}
	})
}

func TestStalePartialIsTakenOver(t *testing.T) {
	forEach(t, func(t *testing.T, o output, path string) {
		if err := o.stale(path + suffix); err != nil {
			t.Fatal(err)
		}
		commit, _, err := o.create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := commit(); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Lstat(path); err != nil || fi.Mode() != o.mode || content(t, path) != "new" {
			t.Errorf("%v, %v, %q; want %v", fi, err, content(t, path), o.mode)
		}
	})
}

func TestOneRunAtATime(t *testing.T) {
	forEach(t, func(t *testing.T, o output, path string) {
		commit, _, err := o.create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := o.create(path); err == nil || !strings.Contains(err.Error(), "another run is writing") {
			t.Fatalf("second run: %v", err)
		}
		if err := commit(); err != nil || content(t, path) != "new" {
			t.Errorf("the second run has spoilt the first: %v, %q", err, content(t, path))
		}
	})
}

// What others have put in the way is neither written to nor removed.
func TestForeignPartial(t *testing.T) {
	forEach(t, func(t *testing.T, o output, path string) {
		partial := path + suffix
		refused := func(what string) {
			t.Helper()
			if _, _, err := o.create(path); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", what, err)
			}
			if !exists(partial) {
				t.Errorf("%s is gone", what)
			}
			os.RemoveAll(partial)
		}
		if os.Geteuid() == 0 {
			if err := errors.Join(o.stale(partial), os.Chown(partial, 65534, 65534)); err != nil {
				t.Fatal(err)
			}
			refused("another user's")
		}
		if err := errors.Join(o.stale(path+".target"), os.Symlink(path+".target", partial)); err != nil {
			t.Fatal(err)
		}
		before := content(t, path+".target")
		refused("a symbolic link")
		if content(t, path+".target") != before {
			t.Error("the target of a link was written to")
		}
		if err := unix.Mkfifo(partial, 0o600); err != nil {
			t.Fatal(err)
		}
		refused("a fifo")
		if o.mode.IsDir() {
			if err := errors.Join(os.Mkdir(partial, 0o700), os.WriteFile(partial+"/precious", nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			refused("a folder with files of others")
			if err := errors.Join(os.MkdirAll(partial+"/stale", 0o700)); err != nil {
				t.Fatal(err)
			}
			refused("a folder in a folder")
			return
		}
		if err := errors.Join(os.WriteFile(path+".other", []byte("x"), 0o600), os.Link(path+".other", partial)); err != nil {
			t.Fatal(err)
		}
		refused("a hard link")
		if content(t, path+".other") != "x" {
			t.Error("the other name of a hard link was written to")
		}
		if err := os.Mkdir(partial, 0o700); err != nil {
			t.Fatal(err)
		}
		refused("a folder")
	})
}

func TestNoFolder(t *testing.T) {
	forEach(t, func(t *testing.T, o output, path string) {
		if _, _, err := o.create(path + "/absent/out"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v; want %v and the name", err, os.ErrNotExist)
		}
	})
}

func TestForce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Create(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("new"), 0); err != nil || content(t, path) != "old" {
		t.Fatalf("before Commit: %q, %v", content(t, path), err)
	}
	f.Abort()
	if content(t, path) != "old" || exists(path+suffix) {
		t.Fatalf("after Abort: %q", content(t, path))
	}
	if f, err = Create(path, true); err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("new"), 0)
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || content(t, path) != "new" || fi.Mode() != 0o600 {
		t.Errorf("after Commit: %q, %v", content(t, path), err)
	}
	f.Abort() // does nothing any more
	if !exists(path) {
		t.Error("Abort after Commit has removed the file")
	}
	if _, err := Create(t.TempDir(), true); err == nil {
		t.Error("a folder was replaced")
	}
}

// Pieces of any size at any place, in memory that is aligned and not, arrive
// as they are, through the page cache and around it.
func TestWriteAt(t *testing.T) {
	for _, dir := range []string{t.TempDir(), "/dev/shm"} {
		tmp, err := os.MkdirTemp(dir, "procmem-sink-")
		if err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { os.RemoveAll(tmp) })
		f, err := Create(filepath.Join(tmp, "out"), false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Abort)
		aligned := sys.Aligned(1 << 20)
		for i := range aligned {
			aligned[i] = byte(i>>12 ^ i)
		}
		want := make([]byte, 5<<20)
		put := func(p []byte, off int64) {
			t.Helper()
			if n, err := f.WriteAt(p, off); n != len(p) || err != nil {
				t.Fatalf("write %d bytes at %d: %d, %v", len(p), off, n, err)
			}
			copy(want[off:], p)
		}
		put(aligned, 1<<20)
		put(aligned[:directMin], 0)
		put(aligned[1:directMin+1], 256<<10)    // a buffer that is not aligned
		put(aligned[:directMin+100], 512<<10)   // a tail that is no page
		put(aligned[:directMin], 700<<10+1)     // a place that is none
		put(aligned[:10], 3<<20)                // small
		put(aligned[:1<<20-8], 3<<20+directMin) // up to a place in the last page
		want = want[:3<<20+directMin+1<<20-8]
		if err := f.Truncate(int64(len(want))); err != nil {
			t.Fatal(err)
		}
		if n := f.DiskBytes(); n < 2<<20 || n > 5<<20 {
			t.Errorf("%d bytes on disk", n)
		}
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(f.path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want %d", dir, len(got), err, len(want))
		}
	}
}

// Whether a file can be long enough is known in advance, and leaves nothing.
func TestFits(t *testing.T) {
	d, err := CreateDir(filepath.Join(t.TempDir(), "out"), func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	if err := d.Fits(1 << 30); err != nil {
		t.Error(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(d.Partial(), &st); err == nil && st.Type == unix.EXT4_SUPER_MAGIC {
		if err := d.Fits(1 << 50); !errors.Is(err, unix.EFBIG) {
			t.Errorf("a PiB on ext4: %v", err)
		}
	}
	if list, err := os.ReadDir(d.Partial()); err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}
