package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

const page = procmem.PageSize

func open(t testing.TB, pid int) *Process {
	t.Helper()
	p, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func view(t testing.TB, p *testproc.Proc) *View {
	t.Helper()
	v, err := open(t, p.PID()).View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// readable reports whether a page of the zoo has bytes for us.
func readable(m testproc.Map, i int) bool { return m.Readable(i) }

// zooViews are the ways in which a process is read.
var zooViews = map[string]func(*View){
	"running":         func(*View) {},
	"stopped":         func(v *View) { v.AssumeStopped(func(f func()) { f() }) },
	"running, old":    func(v *View) { v.pm.noScan.Store(true) },
	"stopped, old":    func(v *View) { v.AssumeStopped(func(f func()) { f() }); v.pm.noScan.Store(true) },
	"guards not told": func(v *View) { v.pm.noGuard.Store(true) },
}

// inTime fails the test if f does not end.
func inTime(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s blocks", what)
	}
}

// Every kind of memory reads as it is, page by page, across pages, and as a
// whole, and what cannot be read is a fault. Nothing blocks.
func TestViewReadsZoo(t *testing.T) {
	testproc.HugePages(t, 1)
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "16M", "--untouched", "1M", "--none", "1M")
	for name, set := range zooViews {
		t.Run(name, func(t *testing.T) {
			v := view(t, p)
			set(v)
			for _, m := range p.Maps() {
				if m.Name == "guardshared" && !tellsGuards(v) {
					continue // as no kernel does that has them
				}
				inTime(t, m.Name, func() { checkMap(t, v, p, m) })
			}
		})
	}
}

// tellsGuards reports whether a view is told of guards in mappings of files.
func tellsGuards(v *View) bool { return !v.pm.noScan.Load() && !v.pm.noGuard.Load() }

func checkMap(t *testing.T, v *View, p *testproc.Proc, m testproc.Map) {
	var want []byte // zeros where it cannot be read
	var lost []procmem.Fault
	got := make([]byte, page)
	for i := range m.Pages() {
		clear(got)
		n, err := v.ReadAt(got, m.Page(i))
		switch {
		case !readable(m, i):
			f, ok := errors.AsType[*procmem.FaultError](err)
			if n != 0 || !ok || f.Addr != m.Page(i) || f.Err != procmem.ErrUnreadable {
				t.Errorf("%s page %d: %d bytes, %v; want a fault", m.Name, i, n, err)
			}
			lost = procmem.AppendFault(lost, procmem.Fault{Range: procmem.Range{Start: m.Page(i), End: m.Page(i) + page}, Err: procmem.ErrUnreadable})
			want = append(want, make([]byte, page)...)
		case n != page || err != nil || !bytes.Equal(got, p.Want(t, m, i)):
			t.Errorf("%s page %d (stamped %v): %d bytes that differ, %v", m.Name, i, m.Stamped(i), n, err)
			fallthrough
		default:
			want = append(want, p.Want(t, m, i)...)
		}
	}
	all := make([]byte, m.Size())
	faults, err := procmem.ReadFull(v, m.Range, make([]byte, 1<<20), func(a procmem.Addr, b []byte) error {
		copy(all[a-m.Start:], b)
		return nil
	})
	if err != nil || !bytes.Equal(all, want) || fmt.Sprint(faults) != fmt.Sprint(lost) {
		t.Errorf("%s as a whole: %v, %v; want %v", m.Name, faults, err, lost)
	}
	for off := uint64(page - 100); len(lost) == 0 && off+300 < m.Size(); off += max(3*page, m.Size()/16) {
		b := make([]byte, 300)
		if n, err := v.ReadAt(b, m.Start+procmem.Addr(off)); n != len(b) || err != nil || !bytes.Equal(b, want[off:off+300]) {
			t.Errorf("%s at %#x: %d, %v", m.Name, off, n, err)
		}
	}
	// Each has a page on both sides that is not mapped.
	for _, a := range []procmem.Addr{m.Start - 1, m.End} {
		if m.Name == "thp" || m.Name == "huge" || m.Name == "sparse" { // large, and so beside another
			continue
		}
		n, err := v.ReadAt(got, a)
		f, ok := errors.AsType[*procmem.FaultError](err)
		if n != 0 || !ok || f.Addr != a || f.Err != procmem.ErrNotMapped || f.Until != 0 && f.Until <= a {
			t.Errorf("%s: read at %v: %d, %v", m.Name, a, n, err)
		}
	}
	// A read that begins in it and goes beyond gives what there is.
	b := make([]byte, 2*page)
	n, err := v.ReadAt(b, m.End-page)
	if f, ok := errors.AsType[*procmem.FaultError](err); readable(m, m.Pages()-1) && m.Name != "huge" && m.Name != "thp" && (n != page || !ok || f.Addr != m.End) {
		t.Errorf("%s: read across its end: %d, %v", m.Name, n, err)
	}
}

// Data tells exactly which pages hold what, as far as there is a page for
// each, and misses nothing.
func TestViewData(t *testing.T) {
	testproc.HugePages(t, 1)
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "16M", "--untouched", "1M", "--none", "1M")
	exact := []string{"anon", "dontdump", "dontfork", "wipeonfork", "untouched", "zeropage", "none", "shared",
		"nonetouched", "readonly", "writeonly", "execonly", "fileshared", "memfd", "guard",
		"guardshared", "sparse", "memfdprivate", "sysv", "droppable"}
	for name, set := range zooViews {
		t.Run(name, func(t *testing.T) {
			v := view(t, p)
			set(v)
			for _, m := range p.Maps() {
				data := make([]bool, m.Pages())
				at := m.Start
				for r, err := range v.Data(m.Range) {
					if err != nil || r.Empty() || r.Start < at || r.End > m.End {
						t.Fatalf("%s %v: data %v after %v, %v", m.Name, m.Range, r, at, err)
					}
					at = r.End
					for a := r.Start.PageDown(); a < r.End; a += page {
						data[(a-m.Start)/page] = true
					}
				}
				for i := range data {
					want := m.Stamped(i)
					if m.FileSize >= 0 { // all of the file
						want = want || int64(i)*page < m.FileSize && m.Readable(i)
					}
					old := v.pm.noScan.Load() // which does not tell the page of zeros
					switch {
					case want && !data[i]:
						t.Errorf("%s page %d holds data and is left out", m.Name, i)
					case !want && data[i] && slices.Contains(exact, m.Name) && !(old && m.Name == "zeropage") &&
						!(v.pm.noGuard.Load() && m.Name == "guard") && !(!tellsGuards(v) && m.Name == "guardshared"):
						t.Errorf("%s page %d holds nothing and is data", m.Name, i)
					}
				}
			}
			for r := range v.Data(procmem.Range{End: 1<<64 - 1}) { // stops when it is told
				_ = r
				break
			}
		})
	}
}

// The runs of pages that kernels before 6.7 tell, without PAGEMAP_SCAN, are
// the same.
func TestPagemapWithoutScan(t *testing.T) {
	testproc.HugePages(t, 1)
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "16M")
	// Nothing may change between the two looks.
	syscall.Kill(p.PID(), syscall.SIGSTOP)
	p.WaitState(t, 'T')
	v := view(t, p)
	runs := func(old bool, r procmem.Range) (out []pageRun) {
		v.pm.noScan.Store(old)
		for run, err := range v.pm.runs(r, 0) {
			if err != nil {
				t.Fatal(err)
			}
			run.State &^= pageZero // not told
			if k := len(out) - 1; k >= 0 && out[k].End == run.Start && out[k].State == run.State {
				out[k].End = run.End
				continue
			}
			out = append(out, run)
		}
		return out
	}
	some := 0
	for _, m := range v.maps {
		if m.Special() {
			continue
		}
		scan, old := runs(false, m.Range), runs(true, m.Range)
		if !slices.Equal(scan, old) {
			t.Errorf("%v:\nscan    %v\npagemap %v", &m, scan, old)
		}
		some += len(scan)
		// Also where the range is no whole pages, and cut anywhere.
		cut := procmem.Range{Start: m.Start + 100, End: m.End - 100}
		if m.Size() > 2*page && !slices.Equal(runs(false, cut), runs(true, cut)) {
			t.Errorf("%v: differ in %v", &m, cut)
		}
	}
	if some < 20 {
		t.Errorf("only %d runs", some)
	}
	v.pm.noScan.Store(false)
	for range v.pm.runs(p.Map(t, "anon").Range, 0) {
	}
	if v.pm.noScan.Load() {
		t.Log("this kernel has no PAGEMAP_SCAN")
	}
}

// The mappings of the zoo are told as the helper announced them.
func TestViewMappings(t *testing.T) {
	testproc.HugePages(t, 1)
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--memfd", "16M")
	ms, err := view(t, p).Mappings()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := open(t, p.PID()).Mappings()
	if err != nil || len(plain) != len(ms) {
		t.Fatalf("maps has %d, smaps %d mappings, %v", len(plain), len(ms), err)
	}
	for i := range ms {
		if ms[i].String() != plain[i].String() {
			t.Errorf("smaps has %v; maps %v", &ms[i], &plain[i])
		}
	}
	flags := map[string]procmem.VMFlags{"dontdump": procmem.VMDontDump, "dontfork": procmem.VMDontCopy,
		"wipeonfork": procmem.VMWipeOnFork, "huge": procmem.VMHugeTLB, "uffd": procmem.VMUffdMiss}
	perms := map[string]string{"none": "---p", "nonetouched": "---p", "readonly": "r--p", "writeonly": "-w-p",
		"execonly": "--xp", "shared": "rw-s", "memfd": "rw-s", "anon": "rw-p"}
	for _, m := range p.Maps() {
		i := procmem.FindMapping(ms, m.Start)
		if i == len(ms) || ms[i].Range != m.Range {
			t.Errorf("%s: %v; want %v", m.Name, &ms[i], m.Range)
			continue
		}
		got := &ms[i]
		if want := flags[m.Name]; got.Flags&want != want || got.Flags == 0 || got.Usage == nil {
			t.Errorf("%s: flags %v, usage %v; want %v", m.Name, got.Flags, got.Usage, want)
		}
		if want, ok := perms[m.Name]; ok && got.Perm.String() != want {
			t.Errorf("%s: %v; want %s", m.Name, got.Perm, want)
		}
		if _, ok := p.Facts["path "+m.Name]; ok {
			want := p.File(t, m.Name)
			deleted := slices.Contains([]string{"deleted", "deletedclean", "replaced"}, m.Name)
			if deleted {
				want += " (deleted)"
			}
			if got.Path != want || got.Deleted() != deleted {
				t.Errorf("%s: path %q; want %q", m.Name, got.Path, want)
			}
		}
		stamped := 0
		for i := range m.Pages() {
			if m.Stamped(i) {
				stamped++
			}
		}
		if m.Name == "anon" && got.Usage.Anonymous != uint64(stamped)*page {
			t.Errorf("%s: %d bytes anonymous; want %d pages", m.Name, got.Usage.Anonymous, stamped)
		}
	}
}

// Neither [vvar] nor [vsyscall], which is above 2^63, is more than a fault.
func TestSpecialMappings(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	v := view(t, p)
	seen := 0
	for _, m := range v.maps {
		b := make([]byte, m.Size())
		switch {
		case m.Path == "[vdso]":
			if n, err := v.ReadAt(b, m.Start); err != nil || !bytes.HasPrefix(b, []byte("\x7fELF")) {
				t.Errorf("[vdso]: %d, %v", n, err)
			}
			seen++
		case strings.HasPrefix(m.Path, "[vvar") || m.Path == "[vsyscall]":
			n, err := v.ReadAt(b, m.Start)
			if f, ok := errors.AsType[*procmem.FaultError](err); n != 0 || !ok || f.Addr != m.Start {
				t.Errorf("%s: %d, %v", m.Path, n, err)
			}
			seen++
		}
	}
	if seen < 2 {
		t.Errorf("%d special mappings", seen)
	}
	for _, a := range []procmem.Addr{0, 1<<64 - 1, 1 << 63} {
		if n, err := v.ReadAt(make([]byte, 2), a); n != 0 || !errors.Is(err, procmem.ErrNotMapped) {
			t.Errorf("read at %v: %d, %v", a, n, err)
		}
	}
}

// Neighbours with other permissions are read as one.
func TestManyMappings(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "mappings", "2000")
	f := strings.Fields(p.Fact(t, "mappings"))
	start, err := procmem.ParseAddr(f[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, stopped := range []bool{false, true} {
		v := view(t, p)
		if stopped {
			v.AssumeStopped(func(f func()) { f() })
		}
		b := make([]byte, 2000*page)
		if n, err := v.ReadAt(b, start); n != len(b) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		for i := range 2000 {
			if a := start + procmem.Addr(i)*page; !bytes.Equal(b[i*page:(i+1)*page], p.Stamp(t, a)) {
				t.Fatalf("page %d differs", i)
			}
		}
	}
}

// A view of a process that is gone, or is another program now, gives faults
// that say so, and never another's memory.
func TestViewOfTheDead(t *testing.T) {
	for _, end := range []string{"killed", "reaped", "exec"} {
		t.Run(end, func(t *testing.T) {
			p := testproc.Start(t, testproc.Kids)
			proc := open(t, p.PID())
			v, err := proc.View()
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			i := slices.IndexFunc(v.maps, func(m procmem.Mapping) bool { return m.Path == "[stack]" })
			stack := v.maps[i].Range
			b := make([]byte, page)
			if _, err := v.ReadAt(b, stack.End-page); err != nil {
				t.Fatal(err)
			}
			switch end {
			case "exec":
				p.Send(t, "exec %s --only anon", testproc.Build(t, testproc.Zoo))
				p.ReadFacts(t)
			case "killed":
				p.Kill()
				p.WaitState(t, 'Z')
			default:
				p.Kill()
				p.Wait()
			}
			if n, err := v.ReadAt(b, stack.End-page); n != 0 || !errors.Is(err, procmem.ErrGone) {
				t.Errorf("read: %d, %v; want %v", n, err, procmem.ErrGone)
			}
			faults, err := procmem.ReadFull(v, stack, b, func(procmem.Addr, []byte) error { return errors.New("data") })
			if err != nil || len(faults) != 1 || faults[0].Range != stack {
				t.Errorf("read in full: %v, %v", faults, err)
			}
			if end == "exec" {
				return
			}
			if _, err := proc.View(); !errors.Is(err, unix.ESRCH) && !errors.Is(err, procmem.ErrGone) {
				t.Errorf("view: %v", err)
			}
			if err := proc.MayRead(); !errors.Is(err, unix.ESRCH) {
				t.Errorf("may read: %v; want ESRCH", err)
			}
			if proc.Exists() != (end == "killed") {
				t.Errorf("exists: %v", proc.Exists())
			}
			if end == "reaped" {
				if _, err := Open(p.PID()); !errors.Is(err, ErrNoProcess) {
					t.Errorf("open: %v; want %v", err, ErrNoProcess)
				}
				if _, err := proc.Stat(); !errors.Is(err, unix.ESRCH) {
					t.Errorf("stat: %v; want ESRCH", err)
				}
				if _, err := proc.Threads(); !errors.Is(err, unix.ESRCH) {
					t.Errorf("threads: %v; want ESRCH", err)
				}
			}
		})
	}
}

// A pid that is used again is another process.
func TestPIDReused(t *testing.T) {
	const last = "/proc/sys/kernel/ns_last_pid"
	for range 50 {
		a := testproc.Start(t, testproc.Kids)
		proc := open(t, a.PID())
		v := view(t, a)
		a.Kill()
		a.Wait()
		if err := os.WriteFile(last, fmt.Append(nil, a.PID()-1), 0); err != nil {
			t.Skip(err)
		}
		b := testproc.Start(t, testproc.Kids)
		if b.PID() != a.PID() {
			b.Kill()
			continue // another process was quicker
		}
		other := open(t, b.PID())
		if st, err := proc.Stat(); !errors.Is(err, unix.ESRCH) {
			t.Errorf("stat: %+v, %v; want ESRCH", st, err)
		}
		if proc.Exists() || proc.HasThread(b.PID()) || !other.Exists() {
			t.Error("the new process is taken for the old one")
		}
		if other.StartTime() < proc.StartTime() {
			t.Errorf("started at %d, the first at %d", other.StartTime(), proc.StartTime())
		}
		buf := make([]byte, 16)
		for _, m := range v.maps {
			if n, err := v.ReadAt(buf, m.Start); n > 0 && !m.HasFile() {
				t.Errorf("%v of the dead process can be read, %v", &m, err)
			}
		}
		return
	}
	t.Skip("other processes took the pid each time")
}

// What is no process, and what is one.
func TestOpen(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	p.Cmd(t, "threads 1")
	tids := p.TIDs()
	for _, pid := range []int{0, -1, 1 << 30, tids[len(tids)-1]} {
		if _, err := Open(pid); !errors.Is(err, ErrNoProcess) {
			t.Errorf("open %d: %v; want %v", pid, err, ErrNoProcess)
		}
	}
	proc := open(t, p.PID())
	got, err := proc.Threads()
	if err != nil || !slices.Equal(got, tids) || proc.PID() != p.PID() {
		t.Errorf("threads %v, %v; want %v", got, err, tids)
	}
	if exe, err := proc.Exe(); err != nil || exe != p.Path {
		t.Errorf("exe %q, %v; want %q", exe, err, p.Path)
	}
	if arch, err := proc.Arch(); err != nil || arch != procmem.AMD64 {
		t.Errorf("arch %v, %v", arch, err)
	}
	if args, err := proc.Cmdline(); err != nil || len(args) != 1 || args[0] != p.Path {
		t.Errorf("arguments %q, %v", args, err)
	}
	if auxv, err := proc.Auxv(procmem.AMD64); err != nil || len(auxv)%16 != 0 || len(auxv) < 160 {
		t.Errorf("auxv of %d bytes, %v", len(auxv), err)
	}
	if bits, err := proc.CoredumpFilter(); err != nil || bits == 0 {
		t.Errorf("filter %#x, %v", bits, err)
	}
	p.WaitBlocked(t, len(tids))
	info, err := proc.Info()
	if err != nil || info.PID != p.PID() || info.PPID != os.Getpid() || info.Name != "kids" || info.State != 'S' {
		t.Errorf("info %+v, %v", info, err)
	}
	pids, err := List()
	if err != nil || !slices.Contains(pids, p.PID()) || !slices.Contains(pids, os.Getpid()) {
		t.Errorf("list: %v", err)
	}
	zombie := open(t, int(p.CmdInts(t, "zombie")[0]))
	if _, err := zombie.View(); !errors.Is(err, unix.ESRCH) && !errors.Is(err, procmem.ErrGone) {
		t.Errorf("view of a zombie: %v", err)
	}
}

// A process whose leader has exited is read through another thread, and
// through the next when that ends too.
func TestHeir(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	p.Cmd(t, "threads 2")
	proc := open(t, p.PID())
	p.Cmd(t, "leaderexit")
	if st, err := proc.Stat(); err != nil || !st.Zombie() {
		t.Fatalf("the leader: %+v, %v", st, err)
	}
	v, err := proc.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, stopped := range []bool{false, true} {
		if stopped {
			v.AssumeStopped(func(f func()) { f() })
		}
		for _, m := range v.maps {
			if m.Path == "[stack]" || m.Path == "[heap]" {
				if _, err := v.ReadAt(make([]byte, page), m.End-page); err != nil {
					t.Errorf("%s: %v", m.Path, err)
				}
			}
		}
	}
	if exe, err := proc.Exe(); err != nil || exe != p.Path {
		t.Errorf("exe %q, %v", exe, err)
	}
	if args, err := proc.Cmdline(); err != nil || len(args) == 0 {
		t.Errorf("arguments %q, %v", args, err)
	}
}

// A 32-bit program.
func TestM32(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo.With(testproc.M32), "--nospin", "--memfd", "1M")
	if arch, err := open(t, p.PID()).Arch(); err != nil || arch != procmem.I386 {
		t.Errorf("arch %v, %v", arch, err)
	}
	v := view(t, p)
	for _, m := range p.Maps() {
		inTime(t, m.Name, func() { checkMap(t, v, p, m) })
	}
}
