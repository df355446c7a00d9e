package sink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/regular"
)

// Dir is a new folder that appears under its name only when it is whole. Commit or Abort must
// be called.
type Dir struct {
	path string
	f    *os.File // holds the lock
	room *reserve
}

// CreateDir creates a folder of mode 0700 that Commit will give the name path, which must not
// exist. It takes over what a killed run has left behind, if ours holds for the names of all
// files in that.
func CreateDir(path string, ours func(name string) bool) (*Dir, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("create %s: %w", path, os.ErrExist)
	}
	d := &Dir{path: path}
	if err := os.Mkdir(d.Partial(), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("create %s: %w", path, errors.Unwrap(err))
	}
	f, err := os.OpenFile(d.Partial(), unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, errors.Unwrap(err))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("create %s: another run is writing %s", path, d.Partial())
	}
	d.f = f
	if err := d.clear(ours); err != nil {
		f.Close()
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	return d, nil
}

// clear empties the folder, or refuses to.
func (d *Dir) clear(ours func(name string) bool) error {
	st, err := d.f.Stat()
	if err != nil {
		return err
	}
	if uid := st.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Geteuid() {
		return fmt.Errorf("%s is in the way, and belongs to another user (uid %d)", d.Partial(), uid)
	}
	if err := d.f.Chmod(0o700); err != nil {
		return err
	}
	entries, err := d.f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !ours(e.Name()) {
			return fmt.Errorf("%s is in the way, and holds %s, which no dump has left there", d.Partial(), e.Name())
		}
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(d.Partial(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Partial returns the path of the folder until Commit.
func (d *Dir) Partial() string { return d.path + suffix }

// Reserve is File.Reserve for all files in the folder.
func (d *Dir) Reserve(n int64) (err error) {
	d.room, err = newReserve(filepath.Dir(d.path), n)
	return err
}

// Fits fails with EFBIG if no file in the folder can have size bytes.
func (d *Dir) Fits(size int64) error {
	f, err := regular.Unnamed(d.Partial())
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

// File creates a file of size bytes in the folder. The caller must close it.
func (d *Dir) File(name string, size int64) (*DirFile, error) {
	f, err := os.OpenFile(filepath.Join(d.Partial(), name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, err
	}
	file := &File{f: f, room: d.room}
	if size >= directMin {
		file.direct, file.disk = openDirect(f), onDisk(f)
	}
	return &DirFile{file}, nil
}

// DirFile is a file in a Dir.
type DirFile struct{ file *File }

// WriteAt implements io.WriterAt, as File.WriteAt does.
func (f *DirFile) WriteAt(p []byte, off int64) (int, error) { return f.file.WriteAt(p, off) }

// Close closes the file. No method may be called afterwards.
func (f *DirFile) Close() error {
	if f.file.direct != nil {
		f.file.direct.Close()
	}
	return f.file.f.Close()
}

// Commit syncs the files to the disk and gives the folder its name.
func (d *Dir) Commit() error {
	d.room.close()
	err := unix.Syncfs(int(d.f.Fd())) // once for all files, which may be thousands
	if err == nil {
		err = rename(d.Partial(), d.path)
	}
	if err != nil {
		d.Abort()
		return fmt.Errorf("finish %s: %w", d.path, err)
	}
	syncParent(d.path)
	return d.f.Close()
}

// Abort removes the folder and everything in it.
func (d *Dir) Abort() {
	d.room.close()
	os.RemoveAll(d.Partial())
	d.f.Close()
}
