package packed

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/procmem/procmem/core"
)

// Opener opens cores, compressed or not.
type Opener struct {
	// Notice, where there is one, is told what takes time or is not as it
	// should be, in a line each.
	Notice func(format string, args ...any)
	// Damaged, where there is one, is called when a file is cut off or damaged,
	// and what there is of it is opened.
	Damaged func()
	// Progress, where there is one, is given what tells how much of so many
	// bytes is unpacked.
	Progress func(done func() int64, total int64)
}

// Open opens the core at path, whatever its name. A plain one is opened by
// core.Open, a seekable one is read in place, and others are unpacked into a
// file without a name in os.TempDir, as far as they go.
func (o Opener) Open(path string) (*core.File, error) {
	// core.Open tells about what is missing or no regular file.
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		if err := notHere(path, err); err != nil {
			return nil, err
		}
		return core.Open(path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return core.Open(path)
	}
	head := make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil || !IsPacked(head) {
		f.Close()
		return core.Open(path)
	}
	c, err := o.open(f, head, path)
	if err != nil {
		return nil, fmt.Errorf("open core %s: %w", path, err)
	}
	return c, nil
}

// notHere explains why there is no file of a name that means one elsewhere.
func notHere(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) && strings.Contains(path, "://") {
		return fmt.Errorf("open %s: %w: only files of this machine are read: download it first", path, os.ErrNotExist)
	}
	return nil
}

// open opens a core that is compressed, and takes f.
func (o Opener) open(f *os.File, head []byte, path string) (*core.File, error) {
	r, size, closer, err := o.plain(f, head, path, "; procmem pack would make it quick to open")
	if err != nil {
		f.Close()
		return nil, err
	}
	return own(r, size, closer)
}

// plain returns the plain bytes of a file that is compressed. closer closes
// the file, if it is not closed already. With an error f is open. The advice is
// for one that is not read in place.
func (o Opener) plain(f *os.File, head []byte, path, advice string) (r io.ReaderAt, size int64, closer io.Closer, err error) {
	seekable, err := inPlace(f, head)
	if err == nil {
		return seekable, seekable.Size(), f, nil
	}
	if !errors.Is(err, ErrNotSeekable) {
		return nil, 0, nil, err
	}
	what := "has no seek table"
	if err != ErrNotSeekable {
		what = fmt.Sprintf("cannot be read in place (%v)", err)
	}
	if isGzip(head) {
		what = "is compressed with gzip"
	}
	o.notice("%s %s: unpacking it to a temporary file first%s", path, what, advice)
	if errors.Is(err, errTable) {
		o.damaged()
	}

	tmp, size, err := o.unpackFile(f, head)
	if bad, ok := errors.AsType[*badFile](err); ok {
		if size == 0 {
			return nil, 0, nil, fmt.Errorf("it %w", bad)
		}
		o.notice("%s %v: what could be unpacked of it are %d bytes", path, bad, size)
		o.damaged()
		err = nil
	}
	if err != nil {
		return nil, 0, nil, err
	}
	f.Close()
	return tmp, size, tmp, nil
}

// inPlace returns what reads a seekable file.
func inPlace(f *os.File, head []byte) (*Reader, error) {
	if !isZstd(head) {
		return nil, ErrNotSeekable
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return NewReader(f, info.Size())
}

// own returns a core that closes c, which is closed as well where there is
// none.
func own(r io.ReaderAt, size int64, c io.Closer) (*core.File, error) {
	f, err := core.NewReader(r, size)
	if err != nil {
		c.Close()
		return nil, err
	}
	f.Owns(c)
	return f, nil
}

func (o Opener) damaged() {
	if o.Damaged != nil {
		o.Damaged()
	}
}

func (o Opener) notice(format string, args ...any) {
	if o.Notice != nil {
		o.Notice(format, args...)
	}
}
