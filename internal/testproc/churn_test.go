package testproc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem"
)

// fakeMemory is memory page by page. What is not there cannot be read.
type fakeMemory map[uint64][]byte

func (m fakeMemory) page(addr uint64) []byte {
	addr &^= procmem.PageSize - 1
	if m[addr] == nil {
		m[addr] = make([]byte, procmem.PageSize)
	}
	return m[addr]
}

func (m fakeMemory) put(addr, v uint64) {
	binary.LittleEndian.PutUint64(m.page(addr)[addr%procmem.PageSize:], v)
}

func (m fakeMemory) read(addr procmem.Addr, p []byte) error {
	page, ok := m[uint64(addr)&^(procmem.PageSize-1)]
	if !ok {
		return errors.New("not there")
	}
	copy(p, page[addr%procmem.PageSize:])
	return nil
}

const fakeTable, fakePlace, fakeOther = 0x10000, 0x100000, 0x200000

var fakeChurn = Churn{Table: fakeTable, Regions: 1, pages: 4, stamp: 0xabc000}

// region writes an entry of the table.
func (m fakeMemory) region(busy, now uint64, states ...churnState) {
	number := map[bool]uint64{true: 1}
	words := []uint64{busy, now}
	for _, s := range states {
		words = append(words, number[s.mapped], s.addr, s.home, s.generation, s.filled, s.gone, number[s.fills])
	}
	for i, w := range words {
		m.put(fakeTable+uint64(8*i), w)
	}
}

// hold writes some words of a region, as a state has them.
func (m fakeMemory) hold(s churnState, first, end int) {
	for i := first; i < end; i++ {
		page, word := uint64(i/wordsOfPage), uint64(i%wordsOfPage)
		m.put(s.addr+uint64(i)*8, fakeChurn.word(0, s, page, word))
	}
}

func TestCheckChurn(t *testing.T) {
	const all = 4 * wordsOfPage
	full := churnState{mapped: true, addr: fakePlace, home: fakePlace, generation: 5, filled: 15, fills: true}
	next := full
	next.generation = 6
	dropped := full
	dropped.fills, dropped.filled = false, 9
	moved := dropped
	moved.addr, moved.gone = fakeOther, fakePlace
	gone := full
	gone.mapped, gone.gone, gone.fills = false, fakePlace, false
	for _, c := range []struct {
		name      string
		busy, now uint64
		states    [2]churnState
		memory    func(m fakeMemory)
		torn      bool
	}{
		{"quiet", 0, 0, [2]churnState{full}, func(m fakeMemory) { m.hold(full, 0, all) }, false},
		{"not yet filled", 0, 0, [2]churnState{full, next}, func(m fakeMemory) { m.hold(full, 0, all) }, false},
		{"filled too early", 0, 0, [2]churnState{full, next}, func(m fakeMemory) { m.hold(next, 0, all) }, true},
		{"a stale page", 0, 1, [2]churnState{full, next}, func(m fakeMemory) { m.hold(next, 0, all); m.hold(full, 512, 1024) }, true},
		{"fill begins", 1, 0, [2]churnState{full, next}, func(m fakeMemory) { m.hold(full, 0, all) }, false},
		{"fill goes on", 1, 0, [2]churnState{full, next}, func(m fakeMemory) { m.hold(full, 0, all); m.hold(next, 0, 700) }, false},
		{"fill is done", 1, 1, [2]churnState{full, next}, func(m fakeMemory) { m.hold(next, 0, all) }, false},
		{"fill from the end", 1, 0, [2]churnState{full, next}, func(m fakeMemory) { m.hold(full, 0, all); m.hold(next, 700, all) }, true},
		{"fill with a gap", 1, 0, [2]churnState{full, next}, func(m fakeMemory) { m.hold(next, 0, all); m.hold(full, 512, 1024) }, true},
		{"fill after a drop", 1, 1, [2]churnState{next, dropped}, func(m fakeMemory) { m.hold(dropped, 0, all); m.hold(next, 0, 3) }, false},
		{"dropped", 0, 1, [2]churnState{full, dropped}, func(m fakeMemory) { m.hold(dropped, 0, all) }, false},
		{"dropped and absent", 0, 1, [2]churnState{full, dropped}, func(m fakeMemory) { m.hold(dropped, 0, 512); m.hold(dropped, 3*512, all) }, false},
		{"dropped and still there", 0, 1, [2]churnState{full, dropped}, func(m fakeMemory) { m.hold(full, 0, all) }, true},
		{"drop begins", 1, 0, [2]churnState{full, dropped}, func(m fakeMemory) { m.hold(full, 0, all) }, false},
		{"drop is done", 1, 0, [2]churnState{full, dropped}, func(m fakeMemory) { m.hold(dropped, 0, all) }, false},
		{"half a drop", 1, 0, [2]churnState{full, dropped}, func(m fakeMemory) { m.hold(full, 0, all); m.hold(dropped, 512, 1024) }, true},
		{"moved", 0, 0, [2]churnState{moved, dropped}, func(m fakeMemory) { m.hold(moved, 0, all) }, false},
		{"moved and still there", 0, 0, [2]churnState{moved, dropped}, func(m fakeMemory) { m.hold(moved, 0, all); m.hold(dropped, 0, 512) }, true},
		{"moved and not there", 0, 0, [2]churnState{moved, dropped}, func(m fakeMemory) { m.hold(dropped, 0, all) }, true},
		{"move begins", 1, 1, [2]churnState{moved, dropped}, func(m fakeMemory) { m.hold(dropped, 0, all) }, false},
		{"half a move", 1, 1, [2]churnState{moved, dropped}, func(m fakeMemory) { m.hold(dropped, 512, all); m.hold(moved, 0, 512) }, true},
		{"unmapped", 0, 0, [2]churnState{gone}, func(fakeMemory) {}, false},
		{"unmapped, and others are there", 0, 0, [2]churnState{gone}, func(m fakeMemory) { m.put(fakePlace, 77) }, false},
		{"unmapped and still there", 0, 0, [2]churnState{gone}, func(m fakeMemory) { m.hold(full, 512, 1024) }, true},
		{"lost", 0, 0, [2]churnState{full}, func(fakeMemory) {}, true},
	} {
		m := fakeMemory{}
		m.region(c.busy, c.now, c.states[0], c.states[1])
		c.memory(m)
		if err := fakeChurn.Check(m.read); errors.Is(err, ErrTorn) != c.torn || err != nil && !c.torn {
			t.Errorf("%s: %v; want torn: %v", c.name, err, c.torn)
		}
	}
	if err := fakeChurn.Check(fakeMemory{}.read); err == nil || errors.Is(err, ErrTorn) {
		t.Errorf("without a table: %v", err)
	}
}

// Running, churned memory is torn sooner or later; stopped, it never is.
func TestChurn(t *testing.T) {
	forEachToolchain(t, func(t *testing.T, tc Toolchain) {
		p := Start(t, Witness.With(tc), "--pages", "256", "--churn")
		read, churn := reader(t, p), p.Churn(t)
		Until(t, "a torn read", func() bool {
			err := churn.Check(read)
			if err != nil && !errors.Is(err, ErrTorn) {
				t.Fatal(err)
			}
			return err != nil
		})
		for range 20 {
			before := p.CmdInts(t, "operations")[0]
			Until(t, "some churn", func() bool { return p.CmdInts(t, "operations")[0] > before+20 })
			stop(t, p)
			if err := churn.Check(read); err != nil {
				t.Error(err)
			}
			goOn(t, p)
		}
	})
}

func TestTorture(t *testing.T) {
	forEachToolchain(t, func(t *testing.T, tc Toolchain) {
		p := Start(t, Torture.With(tc), "--ballast", "1M")
		_, first := p.Check(t)
		stop(t, p)
		goOn(t, p)
		// Time goes on until all have done something.
		var last map[string]int64
		Until(t, "progress", func() bool {
			wrong, now := p.Check(t)
			if wrong != "" {
				t.Fatal(wrong)
			}
			last = now
			for name, n := range now {
				idle := name == "eintr" || name == "increments" && tc == M32
				if n <= first[name] && n != 0 && !idle || n == 0 && strings.Contains("spins values ticks writes", name) {
					return false
				}
			}
			return true
		})
		if tc != M32 && last["increments"] == first["increments"] {
			t.Errorf("counts %v, then %v", first, last)
		}
	})
}

// What torture looks for is found.
func TestTortureNotices(t *testing.T) {
	p := Start(t, Torture, "--ballast", "1M")
	notices := func(what string) {
		t.Helper()
		Until(t, what+" to be noticed", func() bool {
			wrong, _ := p.Check(t)
			return strings.Contains(" "+wrong, " "+what+"=")
		})
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.PID()), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	if _, err := mem.WriteAt([]byte("changed"), int64(p.Map(t, "ballast").Page(3))+16); err != nil {
		t.Fatal(err)
	}
	notices("memory")
	// Signals that nobody has sent.
	send := func(thread string, sig int64) {
		t.Helper()
		if err := tgkill(p.PID(), p.TID(t, thread), syscall.Signal(sig)); err != nil {
			t.Fatal(err)
		}
	}
	rtmin := p.Int(t, "rtmin")
	send("values", rtmin+2)
	notices("values")
	send("ticks", rtmin+3)
	notices("ticks")
	send("in-read", int64(syscall.SIGUSR2)) // its handler runs, but not that of a check
	if wrong, _ := p.Check(t); strings.Contains(wrong, "returned") {
		t.Errorf("an interrupted call counts as one that returned: %s", wrong)
	}
	if err := syscall.Kill(int(p.Int(t, "idle")), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	notices("sigchld")
	pipe, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", p.PID(), p.Int(t, "pipe")), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if _, err := pipe.WriteString("something to read"); err != nil {
		t.Fatal(err)
	}
	notices("returned")
}

func tgkill(pid, tid int, sig syscall.Signal) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(tid), uintptr(sig)); errno != 0 {
		return errno
	}
	return nil
}

// goOn ends what stop has begun.
func goOn(t *testing.T, p *Proc) {
	t.Helper()
	if err := syscall.Kill(p.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}
