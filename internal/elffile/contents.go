package elffile

import (
	"bufio"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"
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
	if size > most {
		return nil, &TooLargeError{size, most}
	}
	if !s.Compressed {
		return f.Part(s.Off, s.Size)
	}
	// A claim that the bytes of the file cannot bear out is not made room for.
	if size > MaxRatio*s.Size {
		return nil, fmt.Errorf("%w: %d compressed bytes cannot become %d", ErrNotELF, s.Size, size)
	}
	b := make([]byte, size)
	return b, f.Unpack(s, b)
}

// MaxRatio is the most that compressing makes of a byte: by zlib, and more than linkers get by
// zstd.
const MaxRatio = 1032

// Unpack unpacks a compressed section into b, which has UnpackedSize bytes.
func (f *File) Unpack(s Section, b []byte) error {
	typ, _, err := f.compression(s)
	if err != nil {
		return err
	}
	head := uint64(f.chdrSize())
	if s.Off > f.size || s.Size > f.size-s.Off || s.Size < head {
		return fmt.Errorf("%w: a compressed section of %d bytes", ErrNotELF, s.Size)
	}
	packed := bufio.NewReaderSize(io.NewSectionReader(f.r, int64(s.Off+head), int64(s.Size-head)), 1<<20)
	var r io.Reader
	switch typ {
	case elf.COMPRESS_ZLIB:
		z, err := zlib.NewReader(packed)
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	case elf.COMPRESS_ZSTD:
		z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	default:
		return fmt.Errorf("a section is compressed by method %d, which is unknown", typ)
	}
	_, err = io.ReadFull(r, b)
	return err
}
