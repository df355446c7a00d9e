package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/overlay"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/testproc"
)

const page = procmem.PageSize

// copying is a precopy by hand, whose rounds are over and whose pause has not
// begun.
type copying struct {
	t     testing.TB
	f     *pauser
	s     *Snapshot
	store *testproc.Pages
	rest  uint64
}

func beginCopying(t testing.TB, p *testproc.Proc, o Options) *copying {
	t.Helper()
	c := &copying{t: t, store: testproc.NewPages()}
	c.f = planned(t, open(t, p), o, c.store)
	c.s = c.f.s
	c.s.Method = MethodPrecopy
	switch no := c.f.canTrackByFaults(); {
	case no == nil:
		if _, err := c.f.beginTracking(t.Context()); err != nil {
			t.Fatal(err)
		}
	case c.f.canUseBits() == nil:
		if err := c.f.beginBits(); err != nil {
			t.Fatal(err)
		}
	default:
		t.Skip(no)
	}
	c.round()
	if c.store.Len() == 0 {
		t.Fatal("nothing was copied before the pause")
	}
	return c
}

// round copies what is left by now.
func (c *copying) round() {
	c.t.Helper()
	round := c.f.rounds
	if c.f.bits != nil {
		round = c.f.bitsRounds
	}
	var err error
	if c.rest, err = round(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

func (c *copying) freeze() {
	c.t.Helper()
	if err := c.f.pauseFor(c.t.Context(), c.rest); err != nil {
		c.t.Fatal(err)
	}
}

// checkStore requires that the store holds what the moment is said to have there, and nothing
// else. A core takes all of the store.
func (c *copying) checkStore() {
	c.t.Helper()
	stored := c.s.Sparse.(*overlay.Memory).Stored()
	for a := range c.store.Have {
		if !stored.Has(a) {
			c.t.Fatalf("the store still has %v, of which the moment does not know", a)
		}
	}
	if n := stored.Len(); n != uint64(c.store.Len()) {
		c.t.Errorf("the store has %d pages; the moment knows of %d", c.store.Len(), n)
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

// A round after which as much is left as before it may be the machine's doing. So there is one
// more, and another one in vain is the last.
func TestRoundInVain(t *testing.T) {
	for _, c := range []struct {
		busy   string // rounds before which the process writes all again
		rounds int
		much   bool // left in the end
	}{{"round 2", 3, false}, {"round 2, round 3", 3, true}} {
		t.Run(c.busy, func(t *testing.T) {
			p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "untouched", "--untouched", "8M")
			p.Cmd(t, "touch untouched")
			copying := beginCopying(t, p, Options{OnStep: func(s Step) {
				if s.Kind == StepRound && strings.Contains(c.busy, fmt.Sprintf("round %d", s.Round)) {
					p.Cmd(t, "touch untouched")
				}
			}})
			if copying.s.Rounds != c.rounds || (copying.rest >= 8<<20) != c.much {
				t.Errorf("%d rounds, and %d bytes are left; want %d", copying.s.Rounds, copying.rest, c.rounds)
			}
			copying.freeze()
			checkAll(t, p, copying.s, p.Map(t, "untouched").Range)
		})
	}
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
	for i, c := range []struct {
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
		{"drop and read", "", func(*testproc.Proc) string { return "droppeek anon 0 2" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "anon")[:2], zeros }},
		{"drop and read a huge page", "", func(*testproc.Proc) string { return "droppeek thp" },
			func(p *testproc.Proc) ([]procmem.Addr, []byte) { return all(p, "thp"), zeros }},
		{"map anew and protect", "touch untouched", func(*testproc.Proc) string { return "merge untouched 100 1000" }, nil},
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
		{"map beside", "touch untouched; unmap untouched 2048 2048", func(*testproc.Proc) string { return "remap untouched 2048 2048" }, nil},
		{"grow", "touch untouched; unmap untouched 2048 2048", func(*testproc.Proc) string { return "grow untouched 2048" }, nil},
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
		if testing.Short() && i%8 != 0 {
			continue
		}
		for _, when := range []string{"before the pause", "between rounds"} {
			t.Run(c.name+" "+when, func(t *testing.T) {
				if c.name == "write hugetlb" {
					testproc.HugePages(t, 1)
				}
				p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "1M", "--untouched", "16M", "--none", "1M")
				if c.name == "write hugetlb" {
					p.Map(t, "huge") // or it is skipped
				}
				for command := range strings.SplitSeq(c.prepare, "; ") {
					if command != "" {
						p.Cmd(t, "%s", command)
					}
				}
				cp := beginCopying(t, p, Options{})
				if c.change != nil {
					p.Cmd(t, "%s", c.change(p))
				}
				if when == "between rounds" {
					cp.round()
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

// While writes are tracked the target has nothing of it but the flag of its
// mappings, and in the end not even that.
func TestPrecopyLeavesNothing(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--memfd", "1M", "--untouched", "16M", "--none", "1M")
	p.WaitBlocked(t, 8)
	p.Cmd(t, "touch untouched")
	before := testproc.TracesOf(t, p.PID())
	for range 3 {
		cp := beginCopying(t, p, Options{})
		now := testproc.TracesOf(t, p.PID())
		if now.FDs != before.FDs || now.Children != before.Children || now.Tracers != 0 || cp.f.bits == nil && now.Watched == before.Watched {
			t.Errorf("while writes are tracked, the target has %+v; before: %+v", now, before)
		}
		cp.freeze()
		if err := cp.s.Close(); err != nil {
			t.Error(err)
		}
		if now := testproc.TracesOf(t, p.PID()); now != before {
			t.Errorf("left: %+v; before: %+v", now, before)
		}
		if k := helpers(p.PID()); len(k) > 0 {
			t.Errorf("helpers %v are still there", k)
		}
	}
	if got := p.CmdInts(t, "spin"); got[1] != 0 {
		t.Errorf("registers of a computation changed %d times", got[1])
	}
}

// The moment is that of the pause, whatever the target does afterwards.
func TestPrecopyIsTheMoment(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "1M", "--untouched", "1M", "--none", "1M")
	s := takeBy(t, p, MethodPrecopy, Options{})
	for _, cmd := range []string{"zero anon", "zero dontfork", "zero shared 0 2", "punch shared 10", "drop thp", "unmap file",
		"remap dontdump", "touch untouched", "touch memfd 1"} {
		p.Cmd(t, "%s", cmd)
	}
	for _, m := range p.Maps() {
		if m.Name == "fileshared" || m.Name == "secret" {
			continue
		}
		for i := range m.Pages() {
			got := make([]byte, page)
			if n, err := s.ReadAt(got, m.Page(i)); err != nil && m.Stamped(i) || err == nil && !bytes.Equal(got, p.Want(t, m, i)) {
				t.Fatalf("%s page %d: %d bytes that begin with %x, %v", m.Name, i, n, got[:8], err)
			}
		}
	}
}

// A bound that the rest cannot meet is refused, and nothing is left: where all
// is written again at once, and where nothing is.
func TestPrecopyBusy(t *testing.T) {
	for _, rate := range []string{"0", "-1"} {
		p := testproc.Start(t, testproc.Many, "fill", "64M", "random", "--writer", rate)
		before := testproc.TracesOf(t, p.PID())
		store := testproc.NewPages()
		take := &taking{p: open(t, p), store: store}
		_, err := take.by(t.Context(), MethodPrecopy, time.Nanosecond)
		if !errors.Is(err, ErrBusy) {
			t.Errorf("writer %s: %v; want %v", rate, err, ErrBusy)
		}
		byBits := canTrack() != nil // nothing need be held to find out
		if take.held == 0 && !byBits {
			t.Errorf("writer %s: the pauses in vain do not count", rate)
		}
		if now := testproc.TracesOf(t, p.PID()); now != before {
			t.Errorf("left: %+v; before: %+v", now, before)
		}
		if n := store.Len(); n != 0 {
			t.Errorf("%d pages are left in the store", n)
		}
		if k := helpers(p.PID()); len(k) > 0 {
			t.Errorf("helpers %v are still there", k)
		}
		p.Cmd(t, "ping")
	}
}

// A pause that turns out to be too long ends at once; the next one is good.
func TestPrecopyTooMuch(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "1M", "--untouched", "16M", "--none", "1M")
	p.WaitBlocked(t, 9)
	cp := beginCopying(t, p, Options{})
	p.Cmd(t, "touch untouched")
	// What is first seen in the pause in vain must be in the next one, too.
	added, err := procmem.ParseAddr(p.Cmd(t, "add seen 64K"))
	if err != nil {
		t.Fatal(err)
	}
	cp.f.o.MaxPause = time.Nanosecond
	if err := cp.f.pauseFor(t.Context(), cp.rest); err != errTooMuch {
		t.Fatalf("%v; want %v", err, errTooMuch)
	}
	p.WaitBlocked(t, 9)
	cp.f.o.MaxPause = 0
	p.Cmd(t, "drop untouched 0 100")
	cp.round()
	cp.freeze()
	checkAll(t, p, cp.s, mapRanges(p)...)
	cp.checkStore()
	got, want := make([]byte, 64<<10), make([]byte, 64<<10)
	if _, err := cp.f.read.ReadAt(want, added); err != nil {
		t.Fatal(err)
	}
	if _, err := cp.s.ReadAt(got, added); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the mapping that was added: %v, equal %v", err, bytes.Equal(got, want))
	}
	if n := len(cp.s.Image().Threads); n != 9 {
		t.Errorf("%d threads; want 9", n)
	}
}

// A target that writes its memory all the time is taken without a bound, too, and is one
// moment. Its writer goes through the pages in order, so its counters differ by one at most.
func TestPrecopyUnbounded(t *testing.T) {
	p := testproc.Start(t, testproc.Witness, "--pages", "16384")
	s := takeBy(t, p, MethodPrecopy, Options{})
	read := func(a procmem.Addr, b []byte) error {
		_, err := s.ReadAt(b, a)
		return err
	}
	steps, err := testproc.CheckWitness(read, p.Addr(t, "base"), int(p.Int(t, "pages")))
	if err != nil || steps > 1 {
		t.Errorf("%d steps, %v; want one at most", steps, err)
	}
	var first [8]byte
	if err := read(p.Addr(t, "base"), first[:]); err != nil || first == [8]byte{} {
		t.Errorf("the witness begins with %x, %v", first, err)
	}
}

// bordersOf returns the borders of the mappings that overlap r.
func bordersOf(t testing.TB, pid int, r procmem.Range) (out []procmem.Range) {
	maps, err := procfs.ParseMaps(bytes.NewReader(readFile(t, fmt.Sprintf("/proc/%d/maps", pid))))
	if err != nil {
		t.Fatal(err)
	}
	for i := range maps {
		if !maps[i].Intersect(r).Empty() {
			out = append(out, maps[i].Range)
		}
	}
	return out
}

// A mapping stays one, as long as writes are tracked and when that ends: where
// it is cut, mremap of it fails.
func TestPrecopyCutsNothing(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--untouched", "128M", "--only", "untouched")
	p.Cmd(t, "touch untouched")
	m := p.Map(t, "untouched")
	whole := func(when string) {
		if b := bordersOf(t, p.PID(), m.Range); len(b) != 1 || b[0] != m.Range {
			t.Errorf("%s, %v was cut into %v", when, m.Range, b)
		}
	}
	cp := beginCopying(t, p, Options{})
	if cp.f.bits != nil {
		t.Skip("soft-dirty bits cut nothing")
	}
	whole("after a round")
	// Mapped anew, it is found not to be tracked in the middle of a round.
	p.Cmd(t, "remap untouched")
	looks := 0
	cp.f.tracker.Check = func(procmem.Addr) error {
		looks++
		whole("in a round")
		return nil
	}
	if _, err := cp.f.tracker.Round(t.Context(), cp.f.wanted); err != nil {
		t.Fatal(err)
	}
	if looks < 4 {
		t.Errorf("%d steps", looks)
	}
	p.Cmd(t, "touch untouched")
	cp.freeze()
	done := make(chan struct{})
	go func() {
		defer close(done)
		cp.s.Close()
	}()
	looks = 0
	for ended := false; !ended && !t.Failed(); looks++ {
		select {
		case <-done:
			ended = true
		default:
		}
		whole("while the tracking ended")
	}
	if <-done; looks < 2 {
		t.Error("not seen")
	}
	if a := p.Cmd(t, "move untouched"); !strings.HasPrefix(a, "0x") {
		t.Errorf("mremap: %s", a)
	}
}

// To copy many runs of pages takes longer than as much memory in one.
func TestRunsTakeTime(t *testing.T) {
	f := &pauser{}
	one, many := f.estimate(dirty.Work{Bytes: 64 << 20, Runs: 1}), f.estimate(dirty.Work{Bytes: 64 << 20, Runs: 16384})
	if took := many - one; took < 10*time.Millisecond || took > 100*time.Millisecond {
		t.Errorf("%v for 64 MiB at once, %v for 16384 runs", one, many)
	}
}
