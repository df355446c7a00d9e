package core

import (
	"bytes"
	"math"
	"testing"

	"github.com/procmem/procmem"
)

// FuzzReader opens anything, and uses all of what opens.
func FuzzReader(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if (file == nil) == (err == nil) {
			t.Fatalf("file %v and error %v", file, err)
		}
		if err != nil {
			return
		}
		defer file.Close()
		maps, _ := file.Mappings()
		for i, m := range maps {
			if m.Empty() || i > 0 && m.Start < maps[i-1].End {
				t.Fatalf("mapping %v is empty or overlaps", m)
			}
		}
		buf := make([]byte, 300)
		var end procmem.Addr
		for _, s := range file.Segments() {
			if s.Empty() || s.Start < end {
				t.Fatalf("segment %v is empty or overlaps", s)
			}
			end = s.End
			n, err := file.ReadAt(buf, s.Start)
			if (n == len(buf)) != (err == nil) {
				t.Fatalf("read %d bytes at %v: %v", n, s.Start, err)
			}
			if n > 0 && !s.Dumped {
				t.Fatalf("read %d bytes at %v, which is not dumped", n, s.Start)
			}
		}
		end = 0
		for r, err := range file.Data(rng(0, math.MaxUint64)) {
			if err != nil || r.Empty() || r.Start < end {
				t.Fatalf("data %v behind %v: %v", r, end, err)
			}
			end = r.End
		}
		for range file.Notes() {
		}
		img := file.Image()
		for i := range img.Threads {
			img.Arch.PC(&img.Threads[i])
		}
		for _, m := range file.Truncated() {
			if _, err := file.ReadAt(buf[:1], m.Start); err == nil {
				t.Fatalf("%v is said to be truncated, and reads", m)
			}
		}
	})
}
