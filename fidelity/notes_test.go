package fidelity

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
)

// Types of notes that hold no registers (include/uapi/linux/elf.h).
const (
	ntAuxv = 6
	ntFile = 0x46494c45
)

// note returns the descriptor of the first note of this type and owner CORE.
func (c *corefile) note(t testing.TB, typ uint32) []byte {
	t.Helper()
	f, err := os.Open(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := range c.Notes() {
		if n.Name != "CORE" || n.Type != typ {
			continue
		}
		b := make([]byte, n.Size)
		if _, err := f.ReadAt(b, n.Offset); err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Fatalf("%s: no note of type %#x", c.path, typ)
	return nil
}

// fileLines returns NT_FILE as lines, decoded here and not by the package
// under test. gdb tells offsets in bytes and leaves names as maps has them, a
// newline being "\012".
func (c *corefile) fileLines(t testing.TB) []string {
	t.Helper()
	b := c.note(t, ntFile)
	word := func(i int) uint64 {
		if c.Image().Arch.WordSize() == 4 {
			return uint64(binary.LittleEndian.Uint32(b[4*i:]))
		}
		return binary.LittleEndian.Uint64(b[8*i:])
	}
	count, unit := int(word(0)), word(1)
	names := b[c.Image().Arch.WordSize()*(2+3*count):]
	var lines []string
	for i := range count {
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			t.Fatalf("%s: %d names for %d files", c.path, i, count)
		}
		names = rest
		lines = append(lines, fmt.Sprintf("%x-%x %x %s", word(2+3*i), word(3+3*i), word(4+3*i)*unit,
			strings.ReplaceAll(string(name), `\012`, "\n")))
	}
	if len(names) != 0 {
		t.Errorf("%s: %d bytes behind the last name", c.path, len(names))
	}
	slices.Sort(lines)
	return lines
}

func (p *pair) compareNotes(t *testing.T) {
	// What comes behind the first AT_NULL, two words of zeros, is no part of
	// the vector, but /proc/PID/auxv has it.
	gotAuxv, wantAuxv := p.ours.note(t, ntAuxv), p.theirs.note(t, ntAuxv)
	null := 2 * p.ours.Image().Arch.WordSize()
	if n := len(gotAuxv); n <= null || !zero(gotAuxv[n-null:]) || !bytes.HasPrefix(wantAuxv, gotAuxv) || !zero(wantAuxv[n:]) {
		t.Errorf("auxiliary vector of ours:\n%x\nof gcore's:\n%x", gotAuxv, wantAuxv)
	}
	got, want := p.ours.fileLines(t), p.theirs.fileLines(t)
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("gcore's file list alone has %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("our file list alone has %s", line)
		}
	}
	a, b := p.ours.Image(), p.theirs.Image()
	if a.Exe != p.exe || b.Exe != p.exe {
		t.Errorf("executable %q and %q, want %q", a.Exe, b.Exe, p.exe)
	}
	x, y := a.Process, b.Process
	// The state of a process that gdb holds is 't'. Of its arguments gdb has
	// the first alone (gdb 13: "contained unexpected null characters"), and
	// for the executable's name it takes what is behind the last slash in
	// that, which a program may have made a title with slashes in it.
	x.State, y.State = 0, 0
	if name := filepath.Base(p.exe); x.Name != name[:min(15, len(name))] {
		t.Errorf("name %q, want that of %s", x.Name, p.exe)
	}
	x.Name, y.Name = "", ""
	if !strings.HasPrefix(x.Args, y.Args) {
		t.Errorf("arguments %q, gcore %q", x.Args, y.Args)
	}
	x.Args, y.Args = "", ""
	if x != y {
		t.Errorf("process of ours %+v, of gcore's %+v", x, y)
	}
}

func (p *pair) compareRegisters(t *testing.T) {
	theirs := map[int]*procmem.Thread{}
	for i := range p.theirs.Image().Threads {
		th := &p.theirs.Image().Threads[i]
		theirs[th.TID] = th
	}
	arch := p.ours.Image().Arch
	if other := p.theirs.Image().Arch; arch != other {
		t.Fatalf("architecture %v, gcore %v", arch, other)
	}
	if got := p.ours.Image().Threads[0].TID; got != p.pid && slices.Contains(p.tids, p.pid) {
		t.Errorf("the first thread is %d, want the leader %d", got, p.pid)
	}
	var got []int
	for i := range p.ours.Image().Threads {
		th := &p.ours.Image().Threads[i]
		got = append(got, th.TID)
		if th.Err != nil {
			t.Errorf("thread %d: %v", th.TID, th.Err)
		}
		if other := theirs[th.TID]; other == nil {
			t.Errorf("gcore has no thread %d", th.TID)
		} else {
			compareThread(t, arch, th, other)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, p.tids) || len(theirs) != len(p.tids) {
		t.Errorf("threads %v and %d in gcore's, want %v", got, len(theirs), p.tids)
	}
}

func compareThread(t *testing.T, arch procmem.Arch, ours, theirs *procmem.Thread) {
	t.Helper()
	a, b := arch.Registers(ours.Regset(procmem.NTPRStatus)), arch.Registers(theirs.Regset(procmem.NTPRStatus))
	if len(a) == 0 || len(a) != len(b) {
		t.Fatalf("thread %d: %d registers, gcore %d", ours.TID, len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			t.Errorf("thread %d: %s is %#x, gcore %#x", ours.TID, a[i].Name, a[i].Value, b[i].Value)
		}
	}
	for _, set := range vectorParts(arch) {
		x, y := ours.Regset(set.typ), theirs.Regset(set.typ)
		if len(x) == 0 {
			t.Errorf("thread %d: no register set %#x", ours.TID, set.typ)
		}
		if len(x) == 0 || len(y) == 0 {
			continue
		}
		for _, part := range set.parts {
			from, to := part[0], part[1]
			if len(x) < to || len(y) < to {
				// A processor without AVX: the area ends before it.
				continue
			}
			if !bytes.Equal(x[from:to], y[from:to]) {
				t.Errorf("thread %d: bytes %d to %d of register set %#x are\n%x, gcore\n%x", ours.TID, from, to, set.typ, x[from:to], y[from:to])
			}
		}
	}
}

// regsetParts are the intervals of a register set in which gdb tells what the
// processor has.
type regsetParts struct {
	typ   uint32
	parts [][2]int
}

// vectorParts returns what both cores know of the floating point and vector
// registers. In the fxsave area, gdb writes zeros for MXCSR_MASK (28 to 32)
// and what is reserved (416 to 512). In the xsave area, gdb 13 goes by the
// places where processors of Intel have what comes behind AVX, and marks
// everything as in use in XSTATE_BV (512), so that both the registers of
// AVX-512 and the header are not comparable. A program of 32 bits has eight
// vector registers and not sixteen.
func vectorParts(arch procmem.Arch) []regsetParts {
	const xmm8, end, ymmh, ymmh8, avxEnd = 288, 416, 576, 704, 832
	if arch == procmem.I386 {
		fx := [][2]int{{0, 28}, {32, xmm8}}
		return []regsetParts{
			{procmem.NTFPRegset, [][2]int{{0, 108}}},
			{procmem.NTPRXFPReg, fx},
			{procmem.NTX86XState, append(slices.Clone(fx), [2]int{ymmh, ymmh8})},
		}
	}
	fx := [][2]int{{0, 28}, {32, end}}
	return []regsetParts{
		{procmem.NTFPRegset, fx},
		{procmem.NTX86XState, append(slices.Clone(fx), [2]int{ymmh, avxEnd})},
	}
}
