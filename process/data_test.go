package process

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

var _ procmem.Resident = (*View)(nil)

// pagesOf returns the addresses of the pages in ranges that must be ascending
// and inside r.
func pagesOf(t *testing.T, r procmem.Range, ranges func(func(procmem.Range, error) bool)) (out []procmem.Addr) {
	t.Helper()
	at := r.Start
	for d, err := range ranges {
		if err != nil || d.Empty() || d.Start < at || d.End > r.End {
			t.Fatalf("%v in %v after %v, %v", d, r, at, err)
		}
		at = d.End
		for a := d.Start.PageDown(); a < d.End; a += page {
			out = append(out, a)
		}
	}
	return out
}

// Where nothing is swapped out, all data is in memory.
func TestResidentIsData(t *testing.T) {
	testproc.HugePages(t, 1)
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "16M", "--untouched", "1M", "--none", "1M")
	if b, err := os.ReadFile("/proc/swaps"); err != nil || strings.Count(string(b), "\n") > 1 {
		t.Skip("there is swap space")
	}
	for name, set := range zooViews {
		if name == "guards not told" {
			continue // they look as if they were swapped out
		}
		v := view(t, p)
		set(v)
		for _, m := range v.maps {
			for _, r := range []procmem.Range{m.Range, {Start: m.Start + 100, End: m.End - 100}} {
				data, resident := pagesOf(t, r, v.Data(r)), pagesOf(t, r, v.Resident(r))
				if !slices.Equal(data, resident) {
					t.Errorf("%s: of %v %d pages of %d are in memory", name, &m, len(resident), len(data))
				}
			}
		}
		for range v.Resident(procmem.Range{End: 1<<64 - 1}) { // stops when it is told
			break
		}
	}
}

// What is swapped out is data, and is not in memory, and neither question has it
// read. Shared memory is not among it: the kernel keeps that in memory for some
// time after it was written to swap space.
func TestResidentWithoutSwapped(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "1M")
	for _, name := range []string{"readonly", "file"} {
		m := p.Map(t, name)
		i := 0 // a page that is out
		for !m.Stamped(i) {
			i++
		}
		out := procmem.Range{Start: m.Page(i), End: m.Page(i) + page}
		if err := advise(t, p.PID(), out, unix.MADV_PAGEOUT); err != nil {
			t.Skip(err)
		}
		swap := func() uint64 {
			ms, err := open(t, p.PID()).Smaps()
			if err != nil {
				t.Fatal(err)
			}
			return ms[procmem.FindMapping(ms, m.Start)].Usage.Swap
		}
		if swap() != page {
			t.Skipf("%s: no page was swapped out", name)
		}
		for how, set := range zooViews {
			v := view(t, p)
			set(v)
			data, resident := pagesOf(t, m.Range, v.Data(m.Range)), pagesOf(t, m.Range, v.Resident(m.Range))
			k := slices.Index(data, out.Start)
			if k < 0 || !slices.Equal(slices.Delete(data, k, k+1), resident) {
				t.Errorf("%s, %s: data %v, in memory %v; %v is out", name, how, data, resident, out.Start)
			}
		}
		if swap() != page {
			t.Errorf("%s: the page is in memory again", name)
		}
	}
}
