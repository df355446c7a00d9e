package elffile

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// TooLargeError reports a section that is larger than the caller takes.
type TooLargeError struct{ Size, Most uint64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("a section of %d bytes, of which %d are read at most", e.Size, e.Most)
}

// UnpackedSize returns how many bytes Contents gives of s. A compressed section claims it.
func (f *File) UnpackedSize(s Section) (uint64, error) {
	if !s.Compressed {
		return s.Size, nil
	}
	_, size, err := f.compression(s)
	return size, err
}

// compression reads the header of a compressed section.
func (f *File) compression(s Section) (typ elf.CompressionType, size uint64, err error) {
	b, err := f.Part(s.Off, uint64(f.chdrSize()))
	if err != nil {
		return 0, 0, err
	}
	return elf.CompressionType(binary.LittleEndian.Uint32(b)), f.Word(b[f.w:]), nil
}

func (f *File) chdrSize() int { return 3 * f.w }

// Contents reads a section, and unpacks it if it is compressed (SHF_COMPRESSED, by zlib or
// zstd). It fails with a *TooLargeError if that is more than most bytes.
func (f *File) Contents(s Section, most uint64) ([]byte, error) {
	if s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	size, err := f.UnpackedSize(s)
	if err != nil {
		return nil, err
	}
	if size > most || s.Size > most {
		return nil, &TooLargeError{max(size, s.Size), most}
	}
	if !s.Compressed {
		return f.Part(s.Off, s.Size)
	}
	b, err := f.Part(s.Off, s.Size)
	if err != nil {
		return nil, err
	}
	if len(b) < f.chdrSize() {
		return nil, fmt.Errorf("%w: a compressed section of %d bytes", ErrNotELF, len(b))
	}
	typ, _, err := f.compression(s)
	if err != nil {
		return nil, err
	}
	return unpack(typ, b[f.chdrSize():], size)
}

// unpack grows what it returns with what comes: size is a claim.
func unpack(typ elf.CompressionType, b []byte, size uint64) ([]byte, error) {
	var r io.Reader
	switch typ {
	case elf.COMPRESS_ZLIB:
		z, err := zlib.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	case elf.COMPRESS_ZSTD:
		z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	default:
		return nil, fmt.Errorf("a section is compressed by method %d, which is unknown", typ)
	}
	var out bytes.Buffer
	const ratio = 1032 // the most that zlib makes of a byte; zstd, of what linkers write
	out.Grow(int(min(size, ratio*uint64(len(b)))) + bytes.MinRead)
	n, err := io.Copy(&out, io.LimitReader(r, int64(size)))
	if err != nil {
		return nil, err
	}
	if uint64(n) < size {
		return nil, fmt.Errorf("%w: a compressed section of %d bytes ends after %d", ErrNotELF, size, n)
	}
	return out.Bytes(), nil
}
