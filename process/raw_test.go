package process

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// advise gives a hint about memory of another process (process_madvise(2)).
func advise(t testing.TB, pid int, r procmem.Range, advice int) error {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	vec := unix.RemoteIovec{Base: uintptr(r.Start), Len: int(r.Size())}
	if _, _, e := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(fd), uintptr(unsafe.Pointer(&vec)), 1, uintptr(advice), 0, 0); e != 0 {
		return e
	}
	return nil
}

// rewrite writes to n bytes at a what is there, so that the page becomes the
// process's own.
func rewrite(t testing.TB, pid int, a procmem.Addr, n int) {
	t.Helper()
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, int64(a)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, int64(a)); err != nil {
		t.Fatal(err)
	}
}

// memoryOf tells the memory that processes have, and share with one another, of the mapping at
// a and on the stack. Whether it is dirty is left aside. In place of a page that is no longer
// shared, the kernel may give the process a copy, which is not dirty.
func memoryOf(t testing.TB, a procmem.Addr, pids ...int) string {
	t.Helper()
	var out []string
	for _, pid := range pids {
		ms, err := open(t, pid).Smaps()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range ms {
			if u := m.Usage; m.Contains(a) || m.Path == "[stack]" {
				out = append(out, fmt.Sprintf("%d: RSS %d, anonymous %d, shared %d, private %d", pid, u.RSS, u.Anonymous,
					u.SharedClean+u.SharedDirty, u.PrivateClean+u.PrivateDirty))
			}
		}
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(regexp.MustCompile(`AnonHugePages:.*`).Find(rollup)))
	}
	return strings.Join(out, "\n")
}

// checkStamped reads all of a stamped mapping in blocks.
func checkStamped(t *testing.T, v *View, p *testproc.Proc, m testproc.Map, block int) {
	t.Helper()
	b := make([]byte, block)
	for off := uint64(0); off < m.Size(); off += uint64(block) {
		if n, err := v.ReadAt(b, m.Start+procmem.Addr(off)); n != block || err != nil {
			t.Fatalf("%#x: %d, %v", off, n, err)
		}
		for i := 0; i < block; i += page {
			if a := m.Start + procmem.Addr(off) + procmem.Addr(i); !bytes.Equal(b[i:i+page], p.Stamp(t, a)) {
				t.Fatalf("%v differs", a)
			}
		}
	}
}

// pinned is how much of r would be read with process_vm_readv, in bytes, where
// it is read in blocks.
func pinned(t *testing.T, v *View, r procmem.Range, block procmem.Addr) (n uint64) {
	t.Helper()
	m := &v.spans[procmem.FindMapping(v.spans, r.Start)]
	for a := r.Start; a < r.End; a += block {
		for run, err := range v.pages(m, procmem.Range{Start: a, End: a + block}) {
			if err != nil {
				t.Fatal(err)
			}
			if run.State&pageOwn != 0 {
				n += run.Size()
			}
		}
	}
	return n
}

// Reading what a process shares with its child gives neither more memory, whenever the child
// was made. What is its own is pinned.
func TestSharedIsNotCopied(t *testing.T) {
	for _, pages := range []string{"small", "huge", "once huge"} {
		for _, whose := range []string{"parent", "parent, before", "child", "parent, stopped", "child, stopped"} {
			t.Run(whose+", "+pages, func(t *testing.T) { testShared(t, whose, pages) })
		}
	}
}

func testShared(t *testing.T, whose, pages string) {
	p := testproc.Start(t, testproc.Kids, "--ballast", "8M")
	m := p.Map(t, "ballast")
	if pages != "small" {
		if err := advise(t, p.PID(), m.Range, unix.MADV_COLLAPSE); err != nil {
			t.Skipf("no huge pages: %v", err)
		}
	}
	before := view(t, p)
	if before.forkSentinel == 0 {
		t.Error("no forkSentinel")
	}
	if got := pinned(t, before, m.Range, 1<<20); got != m.Size() {
		t.Errorf("%d bytes would be pinned without a child; want all", got)
	}
	child := int(p.CmdInts(t, "fork")[0])
	p.WaitBlocked(t, 1)
	testproc.Until(t, "the child to wait", func() bool { return testproc.State(child, child) == 'S' })
	own := unshare(t, p.PID(), child, m, pages)
	unchanged := func(v *View, block int) {
		t.Helper()
		was := memoryOf(t, m.Start, p.PID(), child)
		checkStamped(t, v, p, m, block)
		if is := memoryOf(t, m.Start, p.PID(), child); is != was {
			t.Errorf("memory afterwards\n%s\nbefore\n%s", is, was)
		}
	}
	unchanged(before, 1<<20) // the address-space id is shared
	for _, pid := range []int{p.PID(), child} {
		rewrite(t, pid, before.spaceIDAt, spaceIDSize)
	}
	v := before
	if whose != "parent, before" {
		pid := p.PID()
		if strings.HasPrefix(whose, "child") {
			pid = child
		}
		var err error
		if v, err = open(t, pid).View(); err != nil {
			t.Fatal(err)
		}
		defer v.Close()
	}
	if strings.HasSuffix(whose, "stopped") {
		v.AssumeStopped(nil)
	}
	for _, block := range []int{1 << 20, 64 << 10} {
		if got := pinned(t, v, m.Range, procmem.Addr(block)); got != own {
			t.Errorf("in blocks of %d, %d bytes would be pinned; want %d", block, got, own)
		}
		unchanged(v, block)
	}
}

// unshare has some pages of m be of the parent or the child alone. It returns how many bytes of
// that may be pinned: nothing of a huge page that is shared in part.
func unshare(t *testing.T, parent, child int, m testproc.Map, pages string) (own uint64) {
	t.Helper()
	for at := m.Start; at < m.End; at += hugeSize {
		rewrite(t, child, at, 128<<10)
		if pages == "once huge" {
			rewrite(t, parent, at+hugeSize/2, page)
		}
	}
	if pages == "small" {
		rewrite(t, child, m.Start+hugeSize, hugeSize)
		return hugeSize
	}
	return 0
}

// fixed starts a program at the addresses that it has whenever it is started
// so.
func fixed(t *testing.T, v testproc.Variant, args ...string) *testproc.Proc {
	t.Helper()
	setarch, err := exec.LookPath("setarch")
	if err != nil {
		t.Skip(err)
	}
	return testproc.StartCmd(t, exec.Command(setarch, append([]string{"-R", testproc.Build(t, v)}, args...)...))
}

// While a process is read it executes a program that has other bytes at the same
// addresses. None of these are told.
func TestExecWhileRead(t *testing.T) {
	p := fixed(t, testproc.Kids, "--ballast", "8M")
	m := p.Map(t, "ballast")
	v := view(t, p)
	if pinned(t, v, m.Range, 1<<20) != m.Size() {
		t.Fatal("would not be pinned")
	}
	var want []byte
	for i := range m.Pages() {
		want = append(want, p.Stamp(t, m.Page(i))...)
	}
	var wg sync.WaitGroup
	blocks := make(chan int, 1000)
	for range 3 {
		wg.Go(func() {
			const block = 1 << 20
			b := make([]byte, block)
			for at := 0; ; at = (at + block) % len(want) {
				n, err := v.ReadAt(b, m.Start+procmem.Addr(at))
				if !bytes.Equal(b[:n], want[at:at+n]) {
					t.Error("bytes of the other program")
				}
				if err != nil {
					if !errors.Is(err, procmem.ErrGone) {
						t.Errorf("%v; want %v", err, procmem.ErrGone)
					}
					return
				}
				select {
				case blocks <- at:
				default:
				}
			}
		})
	}
	for range 20 {
		<-blocks
	}
	p.Send(t, "exec %s --ballast 8M", testproc.Build(t, testproc.Kids))
	p.ReadFacts(t)
	wg.Wait()
	if now := p.Map(t, "ballast"); now.Start != m.Start {
		t.Skipf("the other program has its memory at %v, not %v", now.Start, m.Start)
	}
	if n, err := v.ReadAt(make([]byte, 1<<20), m.Start); n != 0 || !errors.Is(err, procmem.ErrGone) {
		t.Errorf("%d, %v; want %v", n, err, procmem.ErrGone)
	}
}

// What process_vm_readv has read of another process, here of one that has
// the pid while the address space lives on, is not told.
func TestMark(t *testing.T) {
	a, b := fixed(t, testproc.Kids, "--ballast", "2M"), fixed(t, testproc.Kids, "--ballast", "2M")
	m := a.Map(t, "ballast")
	if b.Map(t, "ballast").Start != m.Start {
		t.Skip("the two have their memory at different places")
	}
	v := view(t, a)
	if v.spaceIDAt == 0 {
		t.Fatal("no address-space id")
	}
	checkStamped(t, v, a, m, 1<<20)
	v.tid = b.PID()
	checkStamped(t, v, a, m, 1<<20)

	// A pid of another namespace is found out from the first.
	proc := open(t, a.PID())
	other, err := proc.viewOf(b.PID(), proc.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if other.spaceIDAt != 0 {
		t.Error("the address-space id of another process is taken for that of this one")
	}
}

// The address-space id is in one page, in memory that is the process's own, and is not
// zeros.
func TestFindMark(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,zeropage,fileshared")
	v := view(t, p)
	if v.spaceIDAt == 0 || v.spaceIDAt%page > page-spaceIDSize {
		t.Errorf("address-space id at %v", v.spaceIDAt)
	}
	anon := p.Map(t, "anon")
	touched := -1
	for i := range anon.Pages() - 1 {
		if anon.Stamped(i) && anon.Stamped(i+1) {
			touched = i
		}
	}
	if touched < 0 {
		t.Fatal("no two pages that are written")
	}
	at := anon.Page(touched)
	for name, c := range map[string]struct{ at, want procmem.Addr }{
		"in a page":    {at + 16, at + 16},
		"at its end":   {at + page - 8, at + page - 8},
		"in two pages": {at + page - 4, at + page + 4},
		"of zeros":     {p.Map(t, "zeropage").Start, 0},
		"not mapped":   {anon.Start - 16, 0},
		"nowhere":      {0, 0},
	} {
		v.spaceIDAt = 0
		auxv := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, procmem.ATRandom), uint64(c.at))
		if v.findSpaceID(bytes.NewReader(auxv)); v.spaceIDAt != c.want {
			t.Errorf("%s: %v; want %v", name, v.spaceIDAt, c.want)
		}
	}
}

// To read all of a process whose memory is mostly untouched brings no page
// into existence.
func TestReadAllocatesNothing(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "64M", "--untouched", "256M", "--only",
		"anon,untouched,zeropage,none,shared,memfd,fileshared,readonly,nonetouched")
	v := view(t, p)
	usage := func() (out []string) {
		ms, err := open(t, p.PID()).Smaps()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range p.Maps() {
			i := procmem.FindMapping(ms, m.Start)
			out = append(out, fmt.Sprint(m.Name, " ", ms[i].Usage.RSS))
		}
		return out
	}
	before := usage()
	for _, m := range p.Maps() {
		faults, err := procmem.ReadFull(v, m.Range, make([]byte, 1<<20), func(procmem.Addr, []byte) error { return nil })
		if err != nil || len(faults) > 0 {
			t.Errorf("%s: %v, %v", m.Name, faults, err)
		}
	}
	if after := usage(); !slices.Equal(before, after) {
		t.Errorf("in memory afterwards %v; before %v", after, before)
	}
}

// ReadPresent reads what exists across mappings, stops in front of what does
// not, and brings nothing into being.
func TestReadPresent(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin")
	v := view(t, p)
	a, want := p.Needle(t, "data")
	page := a.PageDown()
	got := make([]byte, procmem.PageSize)
	if n, err := v.ReadPresent(got, page); n != len(got) || err != nil || string(got[a-page:][:len(want)]) != string(want) {
		t.Errorf("%d, %v, %q; want %q", n, err, got[a-page:][:len(want)], want)
	}
	ms, _ := v.Mappings()
	looked := 0
	for i := range ms {
		m := &ms[i]
		if m.Shared() || m.Special() || m.HasFile() || m.Usage == nil || m.Usage.RSS+m.Usage.Swap >= m.Size() || m.Flags&procmem.VMUffdMiss != 0 {
			continue
		}
		looked++
		before := memoryOf(t, m.Start, p.PID())
		present := 0
		many := make([]byte, 16*procmem.PageSize)
		for at := m.Start; at < m.End && at < m.Start+64*procmem.PageSize; {
			many := many[:min(len(many), int(m.End-at))]
			n, err := v.ReadPresent(many, at)
			if n == len(many) != (err == nil) {
				t.Fatalf("%v: %d bytes of %d, %v", at, n, len(many), err)
			}
			present += n
			if at += procmem.Addr(n); err != nil {
				at += procmem.PageSize
			}
		}
		if after := memoryOf(t, m.Start, p.PID()); after != before {
			t.Errorf("%v: %s, then %s", m.Range, before, after)
		}
		if present == int(m.Size()) {
			t.Errorf("%v: all of it is present, of which %d bytes are", m.Range, m.Usage.RSS)
		}
	}
	if looked == 0 {
		t.Error("no mapping lacks a page")
	}
}

// ReadWritten reads many ranges at once, up to one that it cannot read. It reads nothing of a
// process that has a child, which would be given copies.
func TestReadWritten(t *testing.T) {
	p := testproc.Start(t, testproc.Kids, "--ballast", "16M")
	m := p.Map(t, "ballast")
	v := view(t, p)
	var ranges []procmem.Range // more than go into one call
	var want []byte
	for i := range m.Pages() / 2 {
		a := m.Page(2 * i)
		ranges = append(ranges, procmem.Range{Start: a, End: a + page})
		want = append(want, p.Stamp(t, a)...)
	}
	got := make([]byte, len(want))
	if n := v.ReadWritten(got, ranges); n != len(want) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d", n, len(want))
	}
	if n := v.ReadWritten(nil, nil); n != 0 {
		t.Errorf("%d bytes of nothing", n)
	}
	clear(got)
	ranges[1500] = procmem.Range{Start: 1 << 46, End: 1<<46 + page}
	if n := v.ReadWritten(got, ranges); n != 1500*page || !bytes.Equal(got[:n], want[:n]) {
		t.Errorf("%d bytes in front of one that is not mapped; want %d", n, 1500*page)
	}
	child := int(p.CmdInts(t, "fork")[0])
	p.WaitBlocked(t, 1)
	testproc.Until(t, "the child to wait", func() bool { return testproc.State(child, child) == 'S' })
	for range 2 { // where the address-space id is shared, and where it is not
		was := memoryOf(t, m.Start, p.PID(), child)
		if n := v.ReadWritten(got, ranges); n != 0 {
			t.Errorf("%d bytes of a process with a child", n)
		}
		if is := memoryOf(t, m.Start, p.PID(), child); is != was {
			t.Errorf("memory afterwards\n%s\nbefore\n%s", is, was)
		}
		rewrite(t, p.PID(), v.spaceIDAt, spaceIDSize)
	}
}
