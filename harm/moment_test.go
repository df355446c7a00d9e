package harm

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

var dumps = flag.Int("dumps", 4, "how many cores TestWitness takes, with each method")

// Each core, compressed or not, is one moment of a process that writes all the
// time, and drops, moves, unmaps and maps memory, while threads are born and die.
func TestWitness(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Witness, "--churn")
		churn, base, pages := p.Churn(t), p.Addr(t, "base"), int(p.Int(t, "pages"))
		methods := map[string]int{}
		for i := range *dumps {
			operations, sweeps := p.CmdInts(t, "operations")[0], p.CmdInts(t, "sweeps")[0]
			testproc.Until(t, "the witness to go on", func() bool {
				return p.CmdInts(t, "operations")[0] > operations && p.CmdInts(t, "sweeps")[0] > sweeps
			})
			var compress []any
			if i%2 == 1 {
				compress = []any{"--compress", "zstd"}
			}
			c := take(t, p.PID(), method, compress...)
			c.want(t, 0, "^$")
			if !c.report.Consistent || len(c.report.Torn) > 0 {
				t.Errorf("core %d: %+v", i, c.report)
			}
			if steps := c.steps(t, base, pages); steps > 1 {
				t.Fatalf("core %d is not one moment: %d steps; %+v", i, steps, c.report)
			}
			if err := churn.Check(c.read); err != nil {
				t.Fatalf("core %d is not one moment: %v; %+v", i, err, c.report)
			}
			methods[c.report.Method]++
			c.done(t)
		}
		t.Logf("methods %v", methods)
	})
}

// steps counts those in the pages of the witness, each of which has been
// stamped at least once.
func (c taken) steps(t *testing.T, base procmem.Addr, pages int) int {
	t.Helper()
	steps, err := testproc.CheckWitness(c.read, base, pages)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pages {
		var word [8]byte
		if err := c.read(base+procmem.Addr(i)*procmem.PageSize, word[:]); err != nil || word == [8]byte{} {
			t.Fatalf("page %d of %d of the witness is not in the core: %v, %+v", i, pages, err, c.report)
		}
	}
	return steps
}

// A core of a process that is not held is torn, and the witness tells.
func TestWitnessTells(t *testing.T) {
	p := testproc.Start(t, testproc.Witness, "--churn")
	churn, base, pages := p.Churn(t), p.Addr(t, "base"), int(p.Int(t, "pages"))
	stamps, regions := false, false
	testproc.Until(t, "cores that are torn", func() bool {
		c := take(t, p.PID(), "live")
		stamps = stamps || c.steps(t, base, pages) > 1
		regions = regions || errors.Is(churn.Check(c.read), testproc.ErrTorn)
		c.done(t)
		return stamps && regions
	})
}

// The pages of a large mapping whose content a test changes while a core is
// being taken: some pages of each chunk are dropped, some mapped anew, some
// unmapped, some zeroed.
const (
	largeSize  = 256 << 20
	chunkPages = 2048
)

// changes are at these pages of each chunk, four pages each; a page in between
// stays as it is.
var changes = []struct {
	command string
	first   int
}{{"drop", 0}, {"remap", 8}, {"unmap", 16}, {"zero", 24}}

// target is a zoo with a large mapping, and a smaller one that moves.
type changing struct {
	*testproc.Proc
	large, moves procmem.Addr
	moved        procmem.Addr // where it went
}

func startChanging(t *testing.T, more ...string) *changing {
	t.Helper()
	only := strings.Join(append([]string{"anon", "shared"}, more...), ",")
	p := &changing{Proc: testproc.Start(t, testproc.Zoo, "--nospin", "--only", only)}
	addr := func(command string) procmem.Addr {
		a, err := procmem.ParseAddr(p.Cmd(t, "%s", command))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	p.moves = addr("add moves 1M")
	p.large = addr(fmt.Sprintf("add large %d", largeSize))
	return p
}

// change makes all changes, and returns when they are made.
func (p *changing) change(t *testing.T) {
	t.Helper()
	for chunk := 0; chunk < largeSize/procmem.PageSize; chunk += chunkPages {
		for _, c := range changes {
			p.Cmd(t, "%s large %d 4", c.command, chunk+c.first)
		}
	}
	p.Cmd(t, "drop anon 1 2")
	p.Cmd(t, "touch anon 10")
	p.Cmd(t, "punch shared 1")
	p.Cmd(t, "touch shared 20")
	moved, err := procmem.ParseAddr(p.Cmd(t, "move moves"))
	if err != nil {
		t.Fatal(err)
	}
	p.moved = moved
}

// beginChanged starts a run, stops it in the middle of its copying, when the
// target runs, has the target change its memory, and ends the run. It returns
// nil where procmem was too quick to be stopped in the middle.
func (p *changing) beginChanged(t *testing.T, method string, change func()) *taken {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, fmt.Sprintf("core.%d", p.PID()))
	r := begin(t, command("core", "--json", "--method", method, "-o", filepath.Join(dir, "core"), p.PID()))
	for !r.ended() && written(path+".partial") < largeSize/8 {
	}
	r.signal(syscall.SIGSTOP)
	testproc.Until(t, "SIGSTOP", func() bool { return r.ended() || stopped(r.pid()) })
	inTime := !r.ended() && written(path+".partial") < largeSize/2 && !held(p.PID())
	if inTime {
		change()
	}
	r.signal(syscall.SIGCONT)
	got := r.wait(t)
	if !inTime {
		return nil
	}
	got.want(t, 0, "^$")
	c := taken{result: got, File: openCore(t, path), path: path}
	c.parse(t)
	if c.report.Method != method {
		t.Fatalf("method %s, because %s", c.report.Method, c.report.Why)
	}
	return &c
}

// check compares a core with what there was before the changes, or after.
func (p *changing) check(t *testing.T, c *taken, changed bool) {
	t.Helper()
	page, zeros := make([]byte, procmem.PageSize), make([]byte, procmem.PageSize)
	holds := func(what string, at procmem.Addr, want []byte) {
		t.Helper()
		err := c.read(at, page)
		if want == nil && err == nil || want != nil && (err != nil || string(page) != string(want)) {
			t.Fatalf("%s: page at %v: %v, begins with %x, want %.8x; %+v", what, at, err, page[:8], want, c.report)
		}
	}
	for i := range largeSize / procmem.PageSize {
		at := p.large + procmem.Addr(i)*procmem.PageSize
		want, what := p.Stamp(t, at), "unchanged"
		for _, ch := range changes {
			if k := i%chunkPages - ch.first; changed && k >= 0 && k < 4 {
				what, want = ch.command, zeros
				if ch.command == "unmap" {
					want = nil
				}
			}
		}
		holds(what, at, want)
	}
	anon, shared := p.Map(t, "anon"), p.Map(t, "shared")
	const moves = 256 // pages
	for i := range procmem.Addr(moves) {
		at := p.moves + i*procmem.PageSize
		if !changed {
			holds("not yet moved", at, p.Stamp(t, at))
			continue
		}
		holds("moved", p.moved+i*procmem.PageSize, p.Stamp(t, at)) // stamped where it was
		if err := c.read(at, page); err == nil && string(page) == string(p.Stamp(t, at)) {
			t.Fatalf("the page at %v has moved, and is still there", at)
		}
	}
	if !changed {
		c.checkMap(t, p.Proc, anon)
		if len(c.report.Torn) == 0 {
			c.checkMap(t, p.Proc, shared)
		}
		return
	}
	holds("drop", anon.Page(1), zeros)
	holds("drop", anon.Page(2), zeros)
	holds("touch", anon.Page(10), p.Stamp(t, anon.Page(10)))
	holds("punch", shared.Page(1), zeros)
	holds("touch", shared.Page(20), p.Stamp(t, shared.Page(20)))
}

// What is dropped, unmapped, mapped anew or moved after its copy was made is
// not in the core: it is of the moment of the pause, which comes at the end.
func TestPrecopyForgetsWhatIsDropped(t *testing.T) {
	testChanged(t, "precopy", true)
}

// A fork is of the moment at which it began, whatever is changed while it is
// copied.
func TestForkKeepsWhatIsDropped(t *testing.T) {
	testChanged(t, "fork", false)
}

func testChanged(t *testing.T, method string, changed bool) {
	forEachMethod(t, []string{method}, func(t *testing.T, method string) {
		for range 20 {
			p := startChanging(t)
			before := look(t, p.PID())
			if c := p.beginChanged(t, method, func() { p.change(t) }); c != nil {
				undone(t, p.PID(), before)
				p.check(t, c, changed)
				unharmed(t, p.Proc)
				return
			}
			p.Kill()
		}
		t.Error("procmem is too quick to be stopped in the middle")
	})
}

// What a fork does not have, or may lose, is in the core all the same.
func TestForkLacks(t *testing.T) {
	testproc.HugePages(t, 1)
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Zoo, "--nospin", "--without", "untouched,none", "--memfd", "1M")
		before := look(t, p.PID())
		c := take(t, p.PID(), method, "-a")
		undone(t, p.PID(), before)
		for _, m := range p.Maps() {
			switch m.Name {
			case "secret", "guard", "guardfile", "guardshared", "eof", "uffd": // parts cannot be read
			default:
				c.checkMap(t, p, m)
			}
		}
		unharmed(t, p)
	})
	// The target writes to its huge page while the fork is there, and there
	// is none left for a copy: the kernel then takes the page from the fork.
	forEachMethod(t, []string{"fork"}, func(t *testing.T, method string) {
		for range 20 {
			p := startChanging(t, "huge")
			m := p.Map(t, "huge")
			if c := p.beginChanged(t, method, func() { p.Cmd(t, "touch huge 300") }); c != nil {
				c.checkMap(t, p.Proc, m)
				unharmed(t, p.Proc)
				return
			}
			p.Kill()
		}
		t.Error("procmem is too quick to be stopped in the middle")
	})
}

// Shared memory is written by others, whom no method holds: what is not of
// the moment is said to be torn.
func TestSharedMemory(t *testing.T) {
	forEachMethod(t, allMethods, func(t *testing.T, method string) {
		p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "shared,fileshared,memfd")
		c := take(t, p.PID(), method, "-a")
		c.want(t, 0, "^$")
		for _, m := range p.Maps() {
			c.checkMap(t, p, m)
		}
		unharmed(t, p)

		for _, size := range []int{1 << 10, 64 << 10} { // pages
			for _, memory := range []string{"shared", "memfd"} {
				p := testproc.Start(t, testproc.Witness, "--memory", memory, "--pages", fmt.Sprint(size))
				before := look(t, p.PID())
				c := take(t, p.PID(), method, "-a")
				undone(t, p.PID(), before)
				base := p.Addr(t, "base")
				steps := c.steps(t, base, size)
				torn := slices.ContainsFunc(c.report.Torn, func(r piece) bool {
					return r.Start < base+procmem.Addr(size)*procmem.PageSize && base < r.End && r.Reason != "" && r.Bytes > 0
				})
				if steps > 1 && !torn {
					t.Errorf("%d pages of %s: %d steps, and torn is %+v", size, memory, steps, c.report.Torn)
				}
				t.Logf("%d pages of %s: %s, %d steps, torn %v, consistent %v, pause %.1f ms",
					size, memory, c.report.Method, steps, torn, c.report.Consistent, c.report.Pause)
				unharmed(t, p)
				c.done(t)
				p.Kill()
			}
		}
	})
}
