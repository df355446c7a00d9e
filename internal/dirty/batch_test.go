package dirty

import (
	"bytes"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// Runs that are copied together are copied one by one from where one of them is
// not there any more.
func TestBlockOfRuns(t *testing.T) {
	p := testproc.Start(t, testproc.Kids, "--ballast", "1M")
	m := p.Map(t, "ballast")
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	v, err := proc.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	gone := procmem.Range{Start: 1 << 46, End: 1<<46 + 2*procmem.PageSize}
	for at := range 6 {
		b := &batch{}
		for i := range 5 {
			if i == at {
				b.add(gone)
			}
			a := m.Page(7 * i)
			b.add(procmem.Range{Start: a, End: a + procmem.Addr(1+i%2)*procmem.PageSize})
		}
		if at == 5 {
			b.add(gone)
		}
		store := testproc.NewPages()
		buf := make([]byte, b.size)
		b.read(v, buf)
		if b.put(store, buf); b.err != nil {
			t.Error(b.err)
		}
		for i, r := range b.runs {
			want := r.Size()
			if r == gone {
				want = 0
			}
			got := make([]byte, want)
			if _, err := store.ReadAt(got, r.Start); b.copied[i] != want || err != nil {
				t.Errorf("%d of %v were copied; want %d; %v", b.copied[i], r, want, err)
			}
			for off := uint64(0); off < want; off += procmem.PageSize {
				if a := r.Start + procmem.Addr(off); !bytes.Equal(got[off:off+procmem.PageSize], p.Stamp(t, a)) {
					t.Errorf("%v differs", a)
				}
			}
		}
		if got := store.Len(); got != 7 {
			t.Errorf("%d pages were put", got)
		}
	}
}
