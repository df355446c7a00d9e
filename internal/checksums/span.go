package checksums

import (
	"hash/crc32"
	"io"
)

// Span is a part of the file, in bytes, with its checksum.
type Span struct {
	Off, Size int64
	sum       uint32
}

// SpanOf returns the Span of a part p of the file that lies at off.
func SpanOf(off int64, p []byte) Span {
	return Span{off, int64(len(p)), crc32.Checksum(p, castagnoli)}
}

// Match reads the span from the file, and reports whether its bytes are those of the checksum.
func (s Span) Match(r io.ReaderAt) (bool, error) {
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(r, s.Off, s.Size)); err != nil {
		return false, err
	}
	return sum.Sum32() == s.sum, nil
}
