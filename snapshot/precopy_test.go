package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

const page = procmem.PageSize

// copying is a precopy by hand, whose rounds are over and whose pause has not
// begun.
type copying struct {
	t     testing.TB
	f     *freezer
	s     *Snapshot
	store *pages
	rest  uint64
}

func beginCopying(t testing.TB, p *testproc.Proc, o Options) *copying {
	t.Helper()
	if err := canTrack(); err != nil {
		t.Skip(err)
	}
	c := &copying{t: t, s: &Snapshot{Method: MethodPrecopy}, store: newPages()}
	o.Store = c.store
	t.Cleanup(func() { c.s.Close() })
	var err error
	if c.f, err = newFreezer(open(t, p), c.s, o); err != nil {
		t.Fatal(err)
	}
	k, err := startKeeper(c.f.p, job{Task: taskTrack})
	if err != nil {
		t.Fatal(err)
	}
	c.s.undo(k.close)
	if _, err := k.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.f.tracker, err = newTracker(c.f.p, k.fds[0], c.f.read, c.store); err != nil {
		t.Fatal(err)
	}
	c.s.undo(c.f.tracker.close)
	if c.rest, err = c.f.rounds(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.store.len() == 0 {
		t.Fatal("nothing was copied before the pause")
	}
	return c
}

func (c *copying) freeze() {
	c.t.Helper()
	if err := c.f.freeze(c.t.Context(), c.rest); err != nil {
		c.t.Fatal(err)
	}
}

// checkStore requires that the store holds what the moment is said to have
// there, and nothing else: whoever writes a core takes all of it.
func (c *copying) checkStore() {
	c.t.Helper()
	ov := c.s.Sparse.(*overlay)
	for a := range c.store.have {
		if !ov.held.Has(a) {
			c.t.Fatalf("the store still has %v, of which the moment does not know", a)
		}
	}
	if n := ov.held.Len(); n != uint64(c.store.len()) {
		c.t.Errorf("the store has %d pages; the moment knows of %d", c.store.len(), n)
	}
}

// checkAll compares pages of mappings in a moment with what the process holds
// now, in which nothing has changed since. What is no data must be zeros, or
// in a file.
func checkAll(t testing.TB, p *testproc.Proc, s *Snapshot, ranges ...procmem.Range) {
	t.Helper()
	now, err := open(t, p).View()
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	maps, _ := now.Mappings()
	bad := 0
	for _, r := range ranges {
		data := map[procmem.Addr]bool{}
		for d, err := range s.Data(r) {
			if err != nil {
				t.Fatalf("data of %v: %v", r, err)
			}
			for a := d.Start.PageDown(); a < d.End; a += page {
				data[a] = true
			}
		}
		for a := r.Start; a < r.End && bad < 10; a += page {
			got, want := make([]byte, page), make([]byte, page)
			n, gerr := s.ReadAt(got, a)
			w, werr := now.ReadAt(want, a)
			i := procmem.FindMapping(maps, a)
			anonymous := i < len(maps) && maps[i].Contains(a) && !maps[i].HasFile()
			switch {
			case (gerr == nil) != (werr == nil), gerr == nil && !bytes.Equal(got, want):
				t.Errorf("%v: %d bytes that begin with %x, %v; the process has %d bytes, %x, %v", a, n, got[:8], gerr, w, want[:8], werr)
				bad++
			case werr == nil && anonymous && !data[a] && !bytes.Equal(want, make([]byte, page)):
				t.Errorf("%v is no data and not zero", a)
				bad++
			}
		}
	}
}

// mapRanges returns the mappings of a helper but for those of these names.
func mapRanges(p *testproc.Proc, without ...string) (out []procmem.Range) {
next:
	for _, m := range p.Maps() {
		for _, name := range without {
			if m.Name == name {
				continue next
			}
		}
		out = append(out, m.Range)
	}
	return out
}

// aligned returns the first whole page table of a mapping, as page numbers.
func aligned(m testproc.Map) (first, count int) {
	const table = 2 << 20
	start := (m.Start + table - 1) &^ (table - 1)
	return int((start - m.Start) / page), table / page
}

// What changes between the last round and the pause is as it is at the pause.
// (The oracle is the process itself, in which nothing goes on.)
func TestChangesBeforePause(t *testing.T) {
	zeros := make([]byte, page)
	all := func(p *testproc.Proc, name string) []procmem.Addr {
		var out []procmem.Addr
		m := p.Map(t, name)
		for i := range m.Pages() {
			out = append(out, m.Page(i))
		}
		return out
	}
	for _, c := range []struct {
		name    string
		prepare string
		change  func(p *testproc.Proc) string
		// want is what some pages hold then, nil where it is up to the oracle.
		want func(p *testproc.Proc) (at []procmem.Addr, bytes []byte)
	}{
		{"nothing", "", nil, nil},
		{"drop a page", "", func(*testproc.Proc) string { return "drop anon 0 1" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "anon")[:1], zeros }},
		{"drop a huge page", "", func(*testproc.Proc) string { return "drop thp" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "thp"), zeros }},
		{"drop a page table", "touch untouched", func(p *testproc.Proc) string {
			first, count := aligned(p.Map(t, "untouched"))
			return fmt.Sprintf("drop untouched %d %d", first, count)
		}, func(p *testproc.Proc) ([]procmem.Addr, []byte) {
			first, count := aligned(p.Map(t, "untouched"))
			return all(p, "untouched")[first : first+count], zeros
		}},
		{"drop several page tables", "touch untouched", func(p *testproc.Proc) string { return "drop untouched" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "untouched"), zeros }},
		{"drop a written page of a file", "", func(*testproc.Proc) string { return "drop file 2" }, nil},
		{"write a page of a file", "", func(*testproc.Proc) string { return "touch file 3" }, nil},
		{"write and drop a page of a file", "touch file 3", func(*testproc.Proc) string { return "drop file 3" }, nil},
		{"write", "", func(*testproc.Proc) string { return "zero anon 0" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "anon")[:1], zeros }},
		{"write more than there is room for", "zero untouched", func(*testproc.Proc) string { return "touch untouched" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) {
				m := p.Map(t, "untouched")
				return []procmem.Addr{m.Page(m.Pages() - 1)}, p.Stamp(t, m.Page(m.Pages()-1))
			}},
		{"write zeros", "touch anon", func(*testproc.Proc) string { return "zero anon" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "anon"), zeros }},
		{"touch", "", func(*testproc.Proc) string { return "touch anon" }, nil},
		{"touch pages of zeros", "", func(*testproc.Proc) string { return "touch zeropage" }, nil},
		{"touch what was untouched", "", func(*testproc.Proc) string { return "touch untouched" }, nil},
		{"write a huge page", "", func(*testproc.Proc) string { return "touch thp 700" }, nil},
		{"write hugetlb", "", func(*testproc.Proc) string { return "touch huge 100" }, nil},
		{"unmap", "touch untouched", func(*testproc.Proc) string { return "unmap untouched 100 100" }, nil},
		{"unmap all", "", func(*testproc.Proc) string { return "unmap anon" }, nil},
		{"map anew", "touch untouched", func(*testproc.Proc) string { return "remap untouched 100 1000" }, nil},
		{"map all anew", "", func(*testproc.Proc) string { return "remap anon" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "anon"), zeros }},
		{"map anew over a file", "", func(*testproc.Proc) string { return "remap file" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "file"), zeros }},
		{"map anew over shared memory", "", func(*testproc.Proc) string { return "remap shared" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "shared"), zeros }},
		{"protect", "", func(*testproc.Proc) string { return "protect anon r" }, nil},
		{"protect from all", "", func(*testproc.Proc) string { return "protect anon -" }, nil},
		{"allow to read", "", func(*testproc.Proc) string { return "protect nonetouched rw" }, nil},
		{"write shared memory", "", func(*testproc.Proc) string { return "touch shared 5 3" }, nil},
		{"punch shared memory", "", func(*testproc.Proc) string { return "punch shared 1" }, nil},
		{"write dontfork", "", func(*testproc.Proc) string { return "zero dontfork 1" }, nil},
		{"write wipeonfork", "", func(*testproc.Proc) string { return "zero wipeonfork 1" }, nil},
	} {
		for _, when := range []string{"before the pause", "between rounds"} {
			t.Run(c.name+" "+when, func(t *testing.T) {
				if c.name == "write hugetlb" {
					testproc.HugePages(t, 1)
				}
				p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "1M", "--untouched", "16M", "--none", "1M")
				if c.name == "write hugetlb" {
					p.Map(t, "huge") // or it is skipped
				}
				if c.prepare != "" {
					p.Cmd(t, "%s", c.prepare)
				}
				cp := beginCopying(t, p, Options{})
				if c.change != nil {
					p.Cmd(t, "%s", c.change(p))
				}
				if when == "between rounds" {
					var err error
					if cp.rest, err = cp.f.rounds(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				cp.freeze()
				checkAll(t, p, cp.s, mapRanges(p)...)
				cp.checkStore()
				if c.want != nil {
					at, want := c.want(p)
					for _, a := range at {
						got := make([]byte, page)
						if _, err := cp.s.ReadAt(got, a); err != nil || !bytes.Equal(got, want) {
							t.Fatalf("%v begins with %x, %v; want %x", a, got[:8], err, want[:8])
						}
					}
				}
			})
		}
	}
}

var _ = errors.Is
