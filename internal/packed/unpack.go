package packed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/sink"
)

// unpackFile unpacks f into a file without a name, which ends with the
// process however it comes. One that is cut off gives io.ErrUnexpectedEOF and
// what there is; with another error there is no file.
func unpackFile(f *os.File, head []byte) (*os.File, int64, error) {
	in, done, err := unpacker(f, head)
	if err != nil {
		return nil, 0, err
	}
	defer done()
	dir := os.TempDir()
	if err := checkRoom(f, dir); err != nil {
		return nil, 0, err
	}
	tmp, err := sink.Unnamed(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("create temporary file: %w", err)
	}
	size, err := unpack(tmp, in)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = noRoom(dir, err)
	}
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) && size > 0 {
		if terr := tmp.Truncate(size); terr == nil {
			return tmp, size, err
		} else {
			err = terr
		}
	}
	tmp.Close()
	return nil, 0, fmt.Errorf("unpack: %w", err)
}

// unpacker returns the plain data of a file that begins with head, and what is
// to be called when it is no longer needed.
func unpacker(file io.Reader, head []byte) (io.Reader, func(), error) {
	r := bufio.NewReaderSize(file, 256<<10)
	if isZstd(head) {
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("unpack: %w", err)
		}
		return z, z.Close, nil
	}
	z, err := gzip.NewReader(r)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, nil, fmt.Errorf("unpack: %w", err)
	}
	return z, func() {}, nil
}

// unpack writes what it reads to dst, and leaves out pages of zeros. It
// returns how much it has read; the length of dst is not set.
func unpack(dst io.WriterAt, src io.Reader) (size int64, err error) {
	buf := make([]byte, 1<<20)
	for err == nil {
		// Not io.ReadFull: it hides whether the file ends or is cut off.
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
		err = nil
	}
	return size, err
}

// checkRoom finds out in advance that f cannot be unpacked into dir: but for
// zeros, which take no room, it takes no less than it does now.
func checkRoom(f *os.File, dir string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	room, err := sink.Room(filepath.Join(dir, "core"))
	if err != nil {
		return err
	}
	if uint64(info.Size()) > room {
		return noRoom(dir, fmt.Errorf("%d bytes, and %d compressed", room, info.Size()))
	}
	return nil
}

func noRoom(dir string, err error) error {
	return fmt.Errorf("not enough room in %s: %w (set TMPDIR to another folder)", dir, err)
}
