package packed

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/regular"
)

// badFile says why a compressed file cannot be unpacked to its end.
type badFile struct{ err error }

func (e *badFile) Error() string {
	switch {
	case errors.Is(e.err, io.ErrUnexpectedEOF):
		return "is cut off, or damaged"
	case errors.Is(e.err, zstd.ErrUnknownDictionary):
		return "is compressed with a dictionary: unpack it with zstd -d -D DICTIONARY"
	case errors.Is(e.err, errWindow), errors.Is(e.err, zstd.ErrDecoderSizeExceeded): // the latter where the window is all of a frame
		return "takes more memory to unpack than procmem allows: unpack it with zstd -d --long=31, and open what that makes"
	}
	return fmt.Sprintf("is damaged (%v)", e.err)
}

func (e *badFile) Unwrap() error { return e.err }

// IsDamaged reports whether opening a compressed file failed because of its contents. It is cut
// off or damaged, or takes more memory than is allowed, which damage may cause, too.
func IsDamaged(err error) bool {
	_, bad := errors.AsType[*badFile](err)
	return bad
}

// errWindow reports that a frame refers to data farther back than the decoder keeps.
var errWindow = errors.New("window too large")

// needsWindow reports whether the first frame says that it needs a larger window than the
// decoder allows. The decoder's own error may also be that of a damaged block.
func needsWindow(r io.ReaderAt) bool {
	head := make([]byte, zstd.HeaderMaxSize)
	n, _ := r.ReadAt(head, 0)
	var h zstd.Header
	return h.Decode(head[:n]) == nil && h.WindowSize > zstd.MaxWindowSize
}

// unpackFile unpacks what it reads from the compressed file into an unnamed file, which ends
// with the process however that ends. A file that is cut off or damaged gives a *badFile, and
// the part before the damage. With another error, or a size of 0, no file is returned.
func (s *Source) unpackFile(packed io.Reader, head []byte, o OpenOptions) (*os.File, int64, error) {
	if isZstd(head) && needsWindow(s.ReaderAt) {
		return nil, 0, &badFile{errWindow}
	}
	in, done, err := o.unpacker(packed, head, s.name)
	if err != nil {
		return nil, 0, err
	}
	defer done()
	dir := cmp.Or(o.TempDir, os.TempDir())
	if err := o.checkRoom(s.size, dir); err != nil {
		return nil, 0, err
	}
	tmp, err := regular.Unnamed(dir)
	if err != nil {
		return nil, 0, o.elsewhere(fmt.Errorf("create temporary file: %w", err))
	}
	size, err := unpack(tmp, in)
	if bad := (*badFile)(nil); err == nil || errors.As(err, &bad) && size > 0 {
		if terr := tmp.Truncate(size); terr == nil {
			return tmp, size, err
		} else {
			err = terr
		}
	}
	tmp.Close()
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		err = o.noRoom(dir, err)
	case errors.Is(err, unix.EFBIG):
		err = fmt.Errorf("%w: raise the limit on file sizes with ulimit -f", err)
	}
	return nil, 0, err
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// unpacker returns the plain data of a file that begins with head, and a function that releases
// it.
func (o OpenOptions) unpacker(file io.Reader, head []byte, name string) (io.Reader, func(), error) {
	r := bufio.NewReaderSize(file, 256<<10)
	if isZstd(head) {
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, nil, &badFile{err}
		}
		return z, z.Close, nil
	}
	z, err := gzip.NewReader(r)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, nil, &badFile{err}
	}
	z.Multistream(false)
	return &members{z, r, func() { o.notice(name + ": what is behind its end is ignored, as gzip does") }}, func() {}, nil
}

// members reads a gzip file, which may consist of several members. What follows them is not
// part of it.
type members struct {
	one     *gzip.Reader
	in      *bufio.Reader
	garbage func()
}

func (m *members) Read(p []byte) (int, error) {
	n, err := m.one.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	head, err := m.in.Peek(len(gzipMagic))
	switch {
	case len(head) == 0:
		return n, err
	case !bytes.HasPrefix([]byte(gzipMagic), head) && string(head) != gzipMagic:
		m.garbage()
		return n, io.EOF
	}
	if err = m.one.Reset(m.in); errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	m.one.Multistream(false)
	return n, err
}

// unpack writes what it reads to dst, except for pages of zeros. It returns how many bytes it
// has read. It does not set the length of dst.
func unpack(dst io.WriterAt, src io.Reader) (size int64, err error) {
	buf := make([]byte, 1<<20)
	for err == nil {
		// io.ReadFull would hide whether the file ends or is cut off.
		n := 0
		for n < len(buf) && err == nil {
			var m int
			m, err = src.Read(buf[n:])
			n += m
		}
		for d := range (pipe.Piece{Addr: procmem.Addr(size), Bytes: buf[:n]}).Data() {
			if _, err := dst.WriteAt(d.Bytes, int64(d.Addr)); err != nil {
				return size, err
			}
		}
		size += int64(n)
	}
	if err == io.EOF {
		return size, nil
	}
	return size, &badFile{err}
}

// checkRoom returns an error if a file of packed bytes certainly cannot be unpacked into dir.
// Apart from zeros, which take no room, the plain data is no smaller than the compressed data.
func (o OpenOptions) checkRoom(packed int64, dir string) error {
	room, err := regular.Room(filepath.Join(dir, "core"))
	if err != nil {
		return o.elsewhere(err)
	}
	if uint64(packed) > room {
		return o.noRoom(dir, fmt.Errorf("%d bytes, and %d compressed", room, packed))
	}
	return nil
}

func (o OpenOptions) noRoom(dir string, err error) error {
	return o.elsewhere(fmt.Errorf("not enough room in %s: %w", dir, err))
}

// elsewhere adds to an error of the temporary file how to choose another folder, unless the
// caller has chosen it.
func (o OpenOptions) elsewhere(err error) error {
	if o.TempDir != "" {
		return err
	}
	return fmt.Errorf("%w (set TMPDIR to another folder)", err)
}
