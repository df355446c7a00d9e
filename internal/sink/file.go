// Package sink is where bytes go: a file or a folder that appears under its name only when it
// is whole. For memory that cannot go to its place yet, there is a file without a name. Start
// with Create, CreateDir or NewSpool.
package sink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// suffix marks a file that is being written. It may stay behind after SIGKILL or a crash of the
// machine; the next run with the same name takes it over.
const suffix = ".partial"

// directAlign is what direct I/O needs of offsets, lengths and buffers: a page suffices for
// every device in use.
const directAlign = 4096

// directMin is the smallest piece for which going around the page cache is faster than through
// it.
const directMin = 64 << 10

// File is a new file that appears under its name only when it is whole. Writes are fastest if
// they are of whole pages at the offset of a page. Commit or Abort must be called.
type File struct {
	path   string
	f      *os.File
	direct *os.File // the same file opened with O_DIRECT, nil if that is refused
	window window
	cached int64 // offset up to which all goes through the page cache, and may stay there
	disk   bool  // not memory
	room   *reserve
	force  bool
}

// Create creates a file of mode 0600 that Commit will give the name path. Unless force is set,
// both fail with os.ErrExist if a file of that name exists. Anything but a regular file is
// never replaced: others use /dev/null and /dev/stdout.
func Create(path string, force bool) (*File, error) {
	if st, err := os.Lstat(path); err == nil {
		if !st.Mode().IsRegular() {
			return nil, fmt.Errorf("create %s: it is %s, and nothing but a regular file is replaced", path, kindOf(st.Mode()))
		}
		if !force {
			return nil, fmt.Errorf("create %s: %w", path, os.ErrExist)
		}
	}
	tmp := path + suffix
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, unix.ENAMETOOLONG) {
		return nil, fmt.Errorf("create %s: %w (it is %s%s until it is whole)", path, errors.Unwrap(err), filepath.Base(path), suffix)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, errors.Unwrap(err))
	}
	if err := claim(f, tmp); err != nil {
		f.Close()
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	return &File{path: path, f: f, direct: openDirect(f), disk: onDisk(f), force: force}, nil
}

// kindOf names what is no regular file.
func kindOf(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&os.ModeSymlink != 0:
		return "a symbolic link"
	case m&os.ModeNamedPipe != 0:
		return "a pipe"
	case m&os.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// openDirect opens f again, to go around the page cache; nil if that is refused or of no use.
func openDirect(f *os.File) *os.File {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	d := os.NewFile(uintptr(fd), f.Name()) // which errors tell
	if !onDisk(d) {
		d.Close()
		return nil
	}
	return d
}

// claim makes sure that f is ours alone, and empty. What a killed run has left is taken over,
// and what a running one writes is not.
func claim(f *os.File, name string) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			return fmt.Errorf("another run is writing %s", name)
		}
		return fmt.Errorf("lock %s: %w", name, err)
	}
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(name); err != nil || !os.SameFile(mine, now) {
		return fmt.Errorf("%s was changed by another run", name)
	}
	// Somebody may have put it there to get at what is written, or to have another file
	// overwritten.
	switch st := mine.Sys().(*syscall.Stat_t); {
	case !mine.Mode().IsRegular():
		return fmt.Errorf("%s is in the way, and is no regular file", name)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s is in the way, and belongs to another user (uid %d)", name, st.Uid)
	case st.Nlink != 1:
		return fmt.Errorf("%s is in the way, and has another name too (a hard link)", name)
	}
	err = f.Chmod(0o600)
	if err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		os.Remove(name) // it is ours
	}
	return err
}

// onDisk reports whether O_DIRECT avoids a copy: memory file systems accept it and copy all the
// same.
func onDisk(f *os.File) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false
	}
	return st.Type != unix.TMPFS_MAGIC && st.Type != unix.RAMFS_MAGIC
}

// WriteAt implements io.WriterAt. It is safe for concurrent use on pieces that do not overlap.
func (s *File) WriteAt(p []byte, off int64) (int, error) {
	s.room.use(len(p))
	if s.around(p, off) {
		head := len(p) &^ (directAlign - 1)
		n, err := s.direct.WriteAt(p[:head], off)
		if errors.Is(err, unix.EINVAL) && n == 0 {
			return s.cachedWrite(p, off)
		}
		if err != nil || head == len(p) {
			return n, err
		}
		m, err := s.cachedWrite(p[head:], off+int64(head))
		return n + m, err
	}
	return s.cachedWrite(p, off)
}

// around reports whether a piece goes around the page cache.
func (s *File) around(p []byte, off int64) bool {
	return s.direct != nil && len(p) >= directMin && off%directAlign == 0 && off >= s.cached
}

// cachedWrite writes through the page cache. If all goes that way, what is on the disk is
// dropped from it; else Commit drops the little that there is.
func (s *File) cachedWrite(p []byte, off int64) (int, error) {
	n, err := s.f.WriteAt(p, off)
	if s.direct == nil && s.disk && off >= s.cached {
		s.window.wrote(int(s.f.Fd()), off, n)
	}
	return n, err
}

// Reserve takes n bytes of room in the folder of the file, so that a disk that is too full is
// noticed at once. Writing uses the room up. On a file system that cannot reserve, it does
// nothing.
func (s *File) Reserve(n int64) (err error) {
	s.room, err = newReserve(filepath.Dir(s.path), n)
	return err
}

// ReadAt implements io.ReaderAt. What was written around the page cache is read around it.
func (s *File) ReadAt(p []byte, off int64) (int, error) {
	if s.around(p, off) && len(p)%directAlign == 0 {
		if n, err := s.direct.ReadAt(p, off); err == nil {
			return n, nil
		}
	}
	return s.f.ReadAt(p, off)
}

// PunchHole makes n bytes from off on read as zeros. If the file system can, it gives back
// their room. The length of the file stays.
func (s *File) PunchHole(off, n int64) error {
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(s.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return s.writeZeros(off, n)
	}
	return err
}

func (s *File) writeZeros(off, n int64) error {
	zeros := make([]byte, min(n, 1<<20))
	for n > 0 {
		m, err := s.f.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off, n = off+int64(m), n-int64(m)
	}
	return nil
}

// Truncate sets the length of the file.
func (s *File) Truncate(size int64) error { return s.f.Truncate(size) }

// DiskBytes returns how many bytes of disk the file takes now.
func (s *File) DiskBytes() int64 {
	var st unix.Stat_t
	if unix.Fstat(int(s.f.Fd()), &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// Commit syncs the data to the disk and gives the file its name.
func (s *File) Commit() error {
	s.room.close()
	err := s.f.Sync()
	if err == nil {
		unix.Fadvise(int(s.f.Fd()), 0, 0, unix.FADV_DONTNEED)
		if s.force {
			err = unix.Rename(s.path+suffix, s.path)
		} else {
			err = rename(s.path+suffix, s.path)
		}
	}
	if err != nil {
		s.Abort()
		return fmt.Errorf("finish %s: %w", s.path, err)
	}
	s.close()
	syncParent(s.path)
	return nil
}

// noReplace and link are others in tests.
var (
	noReplace = func(from, to string) error {
		return unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	}
	link = unix.Link
)

// rename gives a file or a folder a name that must not be in use.
func rename(from, to string) error {
	err := noReplace(from, to)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// A file system that cannot do that, such as NFS.
	if err = link(from, to); err == nil {
		return unix.Unlink(from)
	} else if errors.Is(err, unix.EEXIST) {
		return err
	}
	// Nor has it hard links, which a folder never has.
	if _, err := os.Lstat(to); err == nil {
		return unix.EEXIST
	}
	return unix.Rename(from, to)
}

// syncParent sees to it that a name outlives a crash. Not all file systems can.
func syncParent(path string) {
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		_ = dir.Sync()
		dir.Close()
	}
}

// Abort removes the file.
func (s *File) Abort() {
	if s.f != nil {
		os.Remove(s.path + suffix)
		s.close()
	}
}

func (s *File) close() {
	s.room.close()
	if s.direct != nil {
		s.direct.Close()
	}
	if s.f != nil {
		s.f.Close()
	}
	s.direct, s.f = nil, nil
}
