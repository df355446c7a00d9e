package snapshot

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/internal/testproc"
)

// startBits has the writes of a process tracked by soft-dirty bits, and what there is copied.
func startBits(t *testing.T, p *testproc.Proc) *copying {
	t.Helper()
	if err := dirty.SoftDirty(); err != nil {
		t.Skip(err)
	}
	c := &copying{t: t, store: testproc.NewPages()}
	c.f = planned(t, open(t, p), Options{}, c.store)
	c.s = c.f.s
	c.s.Method = MethodPrecopy
	if err := c.f.beginBits(); err != nil {
		t.Fatal(err)
	}
	c.round()
	return c
}

// withoutFrames runs f with a thread that the kernel tells no page frames.
func withoutFrames(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before, less [2]unix.CapUserData
	if err := unix.Capget(&hdr, &before[0]); err != nil {
		t.Fatal(err)
	}
	less = before
	less[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	if err := unix.Capset(&hdr, &less[0]); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Capset(&hdr, &before[0]); err != nil {
			t.Error(err)
		}
	}()
	f()
}

// A page table that mremap(2) moves keeps its clear bits, and takes the place of another.
func TestBitsMoved(t *testing.T) {
	for _, frames := range []bool{true, false} {
		for _, between := range []bool{true, false} {
			t.Run(fmt.Sprintf("frames %v, between rounds %v", frames, between), func(t *testing.T) {
				p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon")
				under, err := procmem.ParseAddr(strings.TrimPrefix(p.Cmd(t, "add under 4M"), "ok "))
				if err != nil {
					t.Fatal(err)
				}
				p.Cmd(t, "add over 4M")
				var c *copying
				begin := func() { c = startBits(t, p) }
				if frames {
					begin()
				} else {
					withoutFrames(t, begin)
				}
				p.Cmd(t, "cover over under")
				if between {
					c.round()
				}
				c.freeze()
				checkAll(t, p, c.s, procmem.Range{Start: under, End: under + 4<<20})
				c.checkStore()
			})
		}
	}
}

// A page that the kernel has merged with others is clean, whatever was written to it before. It
// is mapped once when the others have been written again.
func TestBitsMerged(t *testing.T) {
	const ksm = "/sys/kernel/mm/ksm/"
	run, err := os.ReadFile(ksm + "run")
	if err != nil {
		t.Skip(err)
	}
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,untouched")
	p.Cmd(t, "touch untouched")
	p.Cmd(t, "mergeable untouched") // which may cut the mapping, so that nothing known of it would hold
	var c *copying
	withoutFrames(t, func() { c = startBits(t, p) })
	m := p.Map(t, "untouched")
	const equal = 200 // pages of what is no zeros
	for i := range equal {
		p.Cmd(t, "same untouched %d", i)
	}
	t.Cleanup(func() { _ = os.WriteFile(ksm+"run", run, 0) })
	pages, _ := os.ReadFile(ksm + "pages_to_scan")
	t.Cleanup(func() { _ = os.WriteFile(ksm+"pages_to_scan", pages, 0) })
	if err := errors.Join(os.WriteFile(ksm+"pages_to_scan", []byte("100000"), 0), os.WriteFile(ksm+"run", []byte("1"), 0)); err != nil {
		t.Fatal(err)
	}
	pm, err := c.f.openPagemap()
	if err != nil {
		t.Fatal(err)
	}
	testproc.Until(t, "pages to be merged", func() bool {
		found, err := sys.PagemapEntries(pm.Fd(), uint64(m.Start), page, make([]uint64, equal))
		clean := 0
		for _, e := range found {
			if e&sys.EntryWritten == 0 {
				clean++
			}
		}
		return err == nil && clean > equal/2 && found[0]&sys.EntryWritten == 0
	})
	p.Cmd(t, "touch untouched 1 %d", equal-1)
	c.freeze()
	checkAll(t, p, c.s, m.Range)
}

// Two cannot use the bits at a time.
func TestBitsInUse(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon")
	c := startBits(t, p)
	second := planned(t, open(t, p), Options{}, testproc.NewPages())
	if err := second.beginBits(); !errors.Is(err, dirty.ErrBitsInUse) {
		t.Errorf("a second one: %v", err)
	}
	p.Cmd(t, "touch anon 0 4")
	c.round()
	p.Cmd(t, "touch anon 0 4")
	if _, err := c.f.bits.Written(t.Context(), c.f.wantedBits(), c.f.maps); err != nil {
		t.Fatal(err)
	}
	// As CRIU does.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.PID()), []byte("4"), 0); err != nil {
		t.Fatal(err)
	}
	if err := c.f.pauseFor(t.Context(), c.rest); !errors.Is(err, dirty.ErrBitsInUse) {
		t.Errorf("somebody has cleared the bits: %v", err)
	}
}

// A kernel that tells of each page of the address space is not asked about terabytes.
func TestBitsReserved(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,none", "--none", "1T")
	f := planned(t, open(t, p), Options{}, testproc.NewPages())
	if err := f.countable(); !errors.Is(err, errReserved) {
		t.Errorf("%v", err)
	}
	f.noScan = true
	if err := f.scan(); !errors.Is(err, errReserved) {
		t.Errorf("%v", err)
	}
}

// Without PAGEMAP_SCAN the entries of the pages tell the same.
func TestEntries(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--none", "1M")
	exists := func(noScan bool) (out []procmem.Range) {
		f := planned(t, open(t, p), Options{}, testproc.NewPages())
		f.noScan = noScan
		if err := f.scan(); err != nil {
			t.Fatal(err)
		}
		for _, v := range f.regions {
			r := procmem.Range{Start: procmem.Addr(v.Start), End: procmem.Addr(v.End)}
			i := procmem.FindMapping(f.maps, r.Start)
			if f.maps[i].Special() || f.maps[i].Device() {
				continue
			}
			if k := len(out) - 1; k >= 0 && out[k].End == r.Start {
				out[k].End = r.End
				continue
			}
			out = append(out, r)
		}
		return out
	}
	a, b := exists(false), exists(true)
	if fmt.Sprint(a) != fmt.Sprint(b) || len(a) == 0 {
		t.Errorf("PAGEMAP_SCAN: %v\nentries: %v", a, b)
	}
}
