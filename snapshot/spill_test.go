package snapshot

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

var errTest = errors.New("a fault of the test")

// contents reads all data, with what could not be read of it.
func contents(t testing.TB, mem procmem.Sparse, ms []procmem.Mapping) (data map[procmem.Addr][]byte, faults []procmem.Fault) {
	t.Helper()
	data = map[procmem.Addr][]byte{}
	for i := range ms {
		for d, err := range mem.Data(ms[i].Range) {
			if err != nil {
				faults = append(faults, procmem.Fault{Range: ms[i].Range, Err: err})
				break
			}
			f, err := procmem.ReadFull(mem, d, make([]byte, 1<<20), func(a procmem.Addr, p []byte) error {
				for ; len(p) > 0; a, p = a+procmem.PageSize, p[procmem.PageSize:] {
					data[a] = bytes.Clone(p[:procmem.PageSize])
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			faults = append(faults, f...)
		}
	}
	return data, faults
}

// What was spilled is the memory of the moment, and the process goes on.
func TestSpill(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--memfd", "1M")
	p.WaitBlocked(t, 8)
	before := states(p)
	s := stop(t, open(t, p))
	var ranges []procmem.Range
	ms := s.Program().Mappings
	for i := range ms {
		ranges = append(ranges, ms[i].Range)
	}
	want, missing := contents(t, s, ms)
	if err := s.spill(t.Context(), testproc.NewPages(), ranges); err != nil {
		t.Fatal(err)
	}
	waitStates(t, p, before)
	if pause, err := s.Release(); !s.Over() || pause <= 0 || err != nil {
		t.Errorf("over: %v, held for %v, %v", s.Over(), pause, err)
	}
	p.CmdInts(t, "wake") // changes its memory
	got, lacks := contents(t, s, ms)
	for a, page := range want {
		if !bytes.Equal(got[a], page) {
			t.Errorf("the page at %v differs", a)
		}
	}
	if len(want) < 100 || len(missing) == 0 || !slices.Equal(lacks, missing) {
		t.Errorf("%d pages; missing: %v; want %v", len(want), lacks, missing)
	}
	if n := len(s.Image().Threads); n != 9 {
		t.Errorf("%d threads", n)
	}
	if _, err := s.ReadAt(make([]byte, 1), 1); !errors.Is(err, procmem.ErrNotDumped) {
		t.Errorf("what was not spilled: %v", err)
	}
}

// A store that fails is an error, and the process goes on with Close.
func TestSpillFails(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo)
	p.WaitBlocked(t, 8)
	before := states(p)
	s := stop(t, open(t, p))
	ms := s.Program().Mappings
	store := testproc.NewPages()
	store.Err = errTest
	if err := s.spill(t.Context(), store, []procmem.Range{{Start: ms[0].Start, End: ms[len(ms)-1].End}}); err != errTest {
		t.Errorf("%v; want %v", err, errTest)
	}
	s.Close()
	waitStates(t, p, before)
}

// With Spill, Take lets a process go on whose memory is too much to be kept in memory.
func TestTakeSpills(t *testing.T) {
	p := testproc.Start(t, testproc.Kids, "--ballast", "40M")
	for _, spill := range []bool{false, true} {
		s := takeBy(t, p, MethodStop, Options{Spill: spill})
		if s.Over() != spill {
			t.Errorf("spill %v: the process goes on: %v", spill, s.Over())
		}
		checkBallast(t, p, s)
		s.Close()
	}
	p.Cmd(t, "ping")
}

// While a process is held, a store that takes nothing is waited for no longer than the caller
// waits.
func TestBoundedStore(t *testing.T) {
	store := &worker{Pages: testproc.NewPages(), ahead: true, wait: func(uint64) { time.Sleep(time.Second) }}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errTest)
	if err := bounded(ctx, store).Put(page, make([]byte, page)); err != errTest {
		t.Errorf("%v; want %v", err, errTest)
	}
	if err := bounded(context.Background(), store).Put(2*page, make([]byte, page)); err != nil || store.Len() == 0 {
		t.Errorf("%v, %d pages", err, store.Len())
	}
	if s := bounded(ctx, nil); s != nil {
		t.Errorf("a store of none: %v", s)
	}
}
