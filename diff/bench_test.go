package diff_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/diff"
)

// pattern is a Memory whose words follow from their addresses, but for a word
// of each page whose number is a multiple of changed.
type pattern struct {
	maps    []procmem.Mapping
	changed uint64
}

func (m pattern) Mappings() ([]procmem.Mapping, error) { return m.maps, nil }

func (m pattern) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	for i := range p {
		p[i] = byte((uint64(addr) + uint64(i)) * 0x9e3779b97f4a7c15 >> 40)
	}
	if m.changed > 0 {
		for i := 0; i < len(p); i += procmem.PageSize {
			if (uint64(addr)+uint64(i))/procmem.PageSize%m.changed == 0 {
				clear(p[i : i+8])
			}
		}
	}
	return len(p), nil
}

// BenchmarkCores compares two cores of 1 GiB, in which one page of a hundred,
// or each, has changed. Bytes are those of one core.
func BenchmarkCores(b *testing.B) {
	const size = 1 << 30
	ms := []procmem.Mapping{{Range: procmem.Range{Start: 1 << 32, End: 1<<32 + size}, Perm: procmem.PermRead | procmem.PermWrite}}
	img := &procmem.Image{Arch: procmem.AMD64, Mappings: ms}
	dir := b.TempDir()
	write := func(name string, m procmem.Memory) *core.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		w, err := core.NewFileWriter(f, img.Arch, core.Select(img, m, core.FilterAll))
		if err != nil {
			b.Fatal(err)
		}
		if err := w.Copy(b.Context(), m); err != nil {
			b.Fatal(err)
		}
		if err := w.Finish(img, &core.Report{}); err != nil {
			b.Fatal(err)
		}
		c, err := core.Open(f.Name())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		return c
	}
	before := write("before", pattern{ms, 0})
	for name, m := range map[string]pattern{"one": {ms, 100}, "all": {ms, 1}} {
		after := write("after."+name, m)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				d, err := diff.New(before, after, diff.Options{})
				if err != nil {
					b.Fatal(err)
				}
				for _, err := range d.Changes(b.Context()) {
					if err != nil {
						b.Fatal(err)
					}
				}
				if s := d.Stats(); s.Compared != size || s.Pages < size/procmem.PageSize/m.changed {
					b.Fatalf("%+v", s)
				}
			}
		})
	}
}
