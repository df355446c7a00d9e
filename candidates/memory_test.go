package candidates

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/search"
)

// endless is memory of which each page differs, and none is kept.
type endless struct{ procmem.Range }

func (m endless) Mappings() ([]procmem.Mapping, error) {
	return []procmem.Mapping{{Range: m.Range}}, nil
}

func (m endless) ReadAt(p []byte, a procmem.Addr) (int, error) {
	for i := range p {
		p[i] = byte(uint64(a)+uint64(i)) * 31
	}
	return len(p), nil
}

// Ten million candidates take no more memory than some.
func TestMemory(t *testing.T) {
	const n, most = 10 << 20, 24 << 20
	info := Info{Type: search.U32, Align: 4, Word: 8}
	m := endless{procmem.Range{Start: 0x10000000, End: 0x10000000 + 4*n}}
	path := t.TempDir() + "/candidates"
	peak := func(f func(w io.Writer)) int64 {
		t.Helper()
		out, err := os.Create(path + ".new")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			t.Skip("the peak cannot be measured: ", err)
		}
		before := status(t, "VmRSS")
		f(out)
		grown := status(t, "VmHWM") - before
		if err := errors.Join(out.Close(), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
		return grown
	}
	grown := peak(func(out io.Writer) {
		w, _ := NewWriter(out, info)
		if _, err := EveryPosition(t.Context(), m, search.Options{}, w); err != nil || w.Count() != n {
			t.Fatal(err, w.Count())
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if grown > most {
		t.Errorf("%d MiB to begin with", grown>>20)
	}
	grown = peak(func(out io.Writer) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := Open(f)
		if err != nil {
			t.Fatal(err)
		}
		w, _ := NewWriter(out, info)
		got, err := Narrow(t.Context(), m, r, Narrowing{Change: Unchanged, Save: w})
		if err != nil || got != (Narrowed{Before: n, Kept: n}) {
			t.Fatal(err, got)
		}
	})
	if grown > most {
		t.Errorf("%d MiB to narrow", grown>>20)
	}
}

// status returns a size in /proc/self/status, in bytes.
func status(t *testing.T, name string) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				return kib << 10
			}
		}
	}
	t.Fatalf("no %s", name)
	return 0
}
