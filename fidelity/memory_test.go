package fidelity

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
)

// maxErrors keeps a core that is wrong everywhere from filling the terminal.
const maxErrors = 20

// comparison goes through the memory that gcore holds.
type comparison struct {
	*pair
	t       *testing.T
	errors  int
	same    uint64 // bytes that both hold
	inFile  uint64 // bytes that ours leaves to the file
	nothing uint64 // bytes that ours leaves out because they are zeros of memory never touched
}

func (c *comparison) errorf(format string, args ...any) {
	c.t.Helper()
	if c.errors++; c.errors <= maxErrors {
		c.t.Errorf(format, args...)
	}
}

// compareMemory compares every byte that gcore holds. The process must still
// be stopped: what ours leaves out is looked up in its files.
func (p *pair) compareMemory(t *testing.T) {
	c := comparison{pair: p, t: t}
	theirs, ours := make([]byte, 1<<20), make([]byte, 1<<20)
	for _, s := range p.theirs.Segments() {
		if !s.Dumped {
			continue
		}
		for a := s.Start; a < s.End; {
			r := procmem.Range{Start: a, End: a + procmem.Addr(min(uint64(len(theirs)), uint64(s.End-a)))}
			a = r.End
			want := theirs[:r.Size()]
			if _, err := p.theirs.ReadAt(want, r.Start); err != nil {
				t.Fatalf("gcore's core: %v", err)
			}
			faults, _ := procmem.ReadFull(p.ours, r, ours, func(at procmem.Addr, got []byte) error {
				c.bytes(at, got, want[at-r.Start:][:len(got)])
				return nil
			})
			for _, f := range faults {
				c.absent(f, want[f.Start-r.Start:f.End-r.Start])
			}
		}
	}
	if c.errors > maxErrors {
		t.Errorf("and %d more", c.errors-maxErrors)
	}
	if c.same == 0 {
		t.Error("nothing was compared")
	}
	t.Logf("%d KiB in both; left out: %d KiB that are in files, %d KiB never touched", c.same>>10, c.inFile>>10, c.nothing>>10)
	p.ours.secondOpinion(t)
	p.theirs.secondOpinion(t)
}

// bytes compares memory that both hold.
func (c *comparison) bytes(at procmem.Addr, got, want []byte) {
	c.t.Helper()
	for len(got) > 0 {
		n := min(len(got), procmem.PageSize)
		if !bytes.Equal(got[:n], want[:n]) && !(zero(want[:n]) && c.unreadable(at)) {
			i := 0
			for got[i] == want[i] {
				i++
			}
			c.errorf("%v is %#02x, in gcore's core %#02x; %s", at+procmem.Addr(i), got[i], want[i], c.mapping(at))
		}
		c.same += uint64(n)
		got, want, at = got[n:], want[n:], at+procmem.Addr(n)
	}
}

// absent judges memory that gcore holds and ours does not, which may be of
// several mappings. These are all the excuses that there are.
func (c *comparison) absent(f procmem.Fault, want []byte) {
	c.t.Helper()
	maps := c.ours.Image().Mappings
	for a := f.Start; a < f.End; {
		i := procmem.FindMapping(maps, a)
		if i == len(maps) || !maps[i].Contains(a) {
			c.errorf("gcore holds %v, and there is no mapping", procmem.Range{Start: a, End: f.End})
			return
		}
		r := f.Range.Intersect(maps[i].Range)
		if why := c.accuse(&maps[i], r, want[a-f.Start:][:r.Size()]); why != "" {
			c.errorf("gcore holds %v, ours does not: %s; %s (%v)", r, why, maps[i].String(), f.Err)
		}
		a = r.End
	}
}

// accuse says what is wrong with leaving out a range of one mapping, or "".
func (c *comparison) accuse(m *procmem.Mapping, r procmem.Range, want []byte) string {
	lost := slices.ContainsFunc(c.ours.Report().Missing, func(x core.Missing) bool { return !x.Intersect(r).Empty() })
	switch {
	case m.Path == "[vvar]" || m.Path == "[vvar_vclock]" || m.Path == "[vsyscall]":
		return "" // nobody can read these; gdb writes zeros
	case lost && c.unreadable(r.Start) && zero(want):
		return "" // nor did gdb get it
	case lost:
		return "our report has it as unreadable"
	case m.Shared():
		return "shared memory is not in a file that stays"
	case !m.HasFile() && zero(want):
		c.nothing += r.Size()
		return "" // never touched, or the core would hold it
	case !m.HasFile():
		return "it is not zero"
	}
	got, err := fileBytes(c.pid, m, r)
	if err != nil {
		return err.Error()
	}
	if !bytes.Equal(got, want) {
		return "the file holds something else"
	}
	c.inFile += r.Size()
	return ""
}

// fileBytes returns what the file of a mapping holds there, zeros from its
// end on.
func fileBytes(pid int, m *procmem.Mapping, r procmem.Range) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, uint64(m.Start), uint64(m.End)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, r.Size())
	if _, err := f.ReadAt(b, int64(m.Offset+uint64(r.Start-m.Start))); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

func (c *comparison) mapping(a procmem.Addr) string {
	maps := c.ours.Image().Mappings
	if i := procmem.FindMapping(maps, a); i < len(maps) && maps[i].Contains(a) {
		return maps[i].String()
	}
	return "not mapped"
}

// secondOpinion has the standard library read the first and the last page of
// every segment, since the comparison has seen both cores through the reader
// of this module alone.
func (c *corefile) secondOpinion(t *testing.T) {
	t.Helper()
	f, err := elf.Open(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, want := make([]byte, procmem.PageSize), make([]byte, procmem.PageSize)
	var held uint64
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Filesz == 0 {
			continue
		}
		held += p.Filesz
		for _, off := range [2]uint64{0, p.Filesz - procmem.PageSize} {
			if _, err := p.ReadAt(want, int64(off)); err != nil {
				t.Fatal(err)
			}
			n, err := c.ReadAt(got, procmem.Addr(p.Vaddr+off))
			if err != nil && !errors.Is(err, procmem.ErrNotDumped) || !bytes.Equal(got[:n], want[:n]) {
				t.Errorf("%s: %#x is read as something else than debug/elf reads (%v)", c.path, p.Vaddr+off, err)
			}
		}
	}
	for _, s := range c.Segments() {
		if s.Dumped {
			held -= s.Size()
		}
	}
	if held != 0 {
		t.Errorf("%s: debug/elf finds %d bytes of memory more", c.path, int64(held))
	}
}

// zeros is compared with, as a loop over gigabytes takes minutes under the
// race detector.
var zeros [1 << 20]byte

func zero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}
