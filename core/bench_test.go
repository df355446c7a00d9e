package core

import (
	"io"
	"testing"

	"github.com/procmem/procmem"
)

// zeroTail is a Memory of pages that are zero but for their last byte: the
// worst case for finding zeros.
type zeroTail struct{ maps []procmem.Mapping }

func (m zeroTail) Mappings() ([]procmem.Mapping, error) { return m.maps, nil }

func (m zeroTail) ReadAt(p []byte, _ procmem.Addr) (int, error) {
	for i := page - 1; i < len(p); i += page {
		p[i] = 1
	}
	return len(p), nil
}

type discardAt struct{}

func (discardAt) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// Copying must not allocate per block.
func BenchmarkCopy(b *testing.B) {
	const size = 1 << 30
	m := zeroTail{[]procmem.Mapping{anon(0x10000, 0x10000+size, rw, "")}}
	img := fakeImage(procmem.AMD64, m.maps)
	segs := Select(img, m, FilterDefault)
	for name, create := range map[string]func() *Writer{
		"file":   func() *Writer { return mustFile(b, discardAt{}, img, segs) },
		"stream": func() *Writer { return mustStream(b, io.Discard, img, segs) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if err := create().Copy(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
