package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// asleepPause is far less than threads in state D used to hold up the others for.
const asleepPause = 200 * time.Millisecond

// vfork is the system call of vfork(3) on this machine.
var vfork = map[string]string{"amd64": "vfork", "arm64": "clone"}[runtime.GOARCH]

// A thread in vfork holds up no others, whatever the method; which thread it is, and
// why it did not stop, is told.
func TestAsleepHoldsNobodyUp(t *testing.T) {
	for _, method := range []Method{MethodStop, MethodFork, MethodPrecopy, MethodAuto} {
		t.Run(string(method), func(t *testing.T) {
			p := testproc.Start(t, testproc.Kids, "--gap", "--ballast", "64M")
			p.CmdInts(t, "threads 1")
			p.CmdInts(t, "vfork")
			p.WaitState(t, 'D')
			least := time.Hour
			for range 5 { // the machine may be busy
				s := takeAny(t, p, method)
				pause, _ := s.Release()
				if method == MethodStop { // what it copies is no part of it
					pause = s.pause
				}
				least = min(least, pause)
				img := s.Image()
				i := slices.IndexFunc(img.Threads, func(th procmem.Thread) bool { return th.TID == p.PID() })
				if i < 0 || !errors.Is(img.Threads[i].Err, ptracer.ErrWouldNot) || !strings.Contains(img.Threads[i].Err.Error(), "state D, in "+vfork) {
					t.Fatalf("thread in vfork: %v", img.Threads[i].Err)
				}
				if pc, sp, ok := img.Arch.PC(&img.Threads[i]); !ok || pc == 0 || sp == 0 {
					t.Errorf("its pc is %v, its sp %v", pc, sp)
				}
				for _, th := range img.Threads {
					if th.TID != p.PID() && th.Err != nil {
						t.Errorf("thread %s: %v", th.Name, th.Err)
					}
				}
				s.Close()
			}
			if least >= asleepPause {
				t.Errorf("held for %v", least)
			}
			p.Send(t, "go on")
			if got := p.Recv(t); got != "ok" {
				t.Errorf("the parent says %q", got)
			}
		})
	}
}

// takeAny takes a moment, whatever became of the registers.
func takeAny(t *testing.T, p *testproc.Proc, method Method) *Snapshot {
	t.Helper()
	s, err := Take(t.Context(), open(t, p), Options{Method: method, Prepare: into(testproc.NewPages())})
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// slurper is a target with a thread in read(2), which nothing but the server ends
// (fs/fuse/dev.c, request_wait_answer).
type slurper struct {
	*testproc.Proc
	fuse   *testproc.Fuse
	data   []byte
	tid    int
	buffer procmem.Range
	flag   procmem.Addr
}

func startSlurper(t *testing.T, pieces int) *slurper {
	s := &slurper{fuse: testproc.MountFuse(t, t.TempDir()), data: bytes.Repeat([]byte("server"), 16<<10)}
	path := s.fuse.Put("data", s.data)
	s.Proc = testproc.Start(t, testproc.Kids)
	t.Cleanup(s.fuse.Answer) // or it would not end when it is killed
	s.Cmd(t, "threads 2")
	s.fuse.Hang("data")
	n := s.CmdInts(t, "slurp %s %d", path, pieces)
	s.tid, s.flag = int(n[0]), procmem.Addr(n[3])
	s.buffer = procmem.Range{Start: procmem.Addr(n[1]), End: procmem.Addr(n[1] + n[2])}
	s.fuse.WaitAsked(t) // a signal, and a request to stop, turns state S into D
	return s
}

func read(t *testing.T, mem procmem.Memory, r procmem.Range) []byte {
	t.Helper()
	b := make([]byte, r.Size())
	if _, err := mem.ReadAt(b, r.Start); err != nil {
		t.Fatal(err)
	}
	return b
}

// A thread that leaves state D while the process is held writes what it was asked for and
// stops. It runs no code of its own before the process goes on.
func TestAsleepStopsOnItsWayOut(t *testing.T) {
	p := startSlurper(t, 1)
	proc := open(t, p.Proc)
	tracer := ptracer.New(proc)
	defer tracer.Release()
	if err := tracer.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := testproc.State(p.PID(), p.tid); st != 'D' {
		t.Fatalf("it is in state %c", st)
	}
	p.fuse.Answer()
	testproc.Until(t, "it to stop", func() bool { return testproc.State(p.PID(), p.tid) == 't' })
	view, err := proc.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	flag := procmem.Range{Start: p.flag, End: p.flag + 8}
	if b := read(t, view, flag); b[0] != 0 {
		t.Error("it has run code of its own while it was to be held")
	}
	if got := read(t, view, p.buffer); !bytes.Equal(got, p.data[:len(got)]) {
		t.Error("the call has not written to its buffer: the test is none")
	}
	tracer.Release()
	testproc.Until(t, "it to go on", func() bool { return read(t, view, flag)[0] == 1 })
	p.Cmd(t, "ping")
}

// The buffers of a thread that does not stop are told as torn, by every method, and
// nothing else is.
func TestAsleepBuffersAreTorn(t *testing.T) {
	for _, method := range []Method{MethodStop, MethodFork, MethodPrecopy, MethodAuto} {
		for pieces := 1; pieces <= 2; pieces++ {
			t.Run(fmt.Sprint(method, pieces), func(t *testing.T) {
				p := startSlurper(t, pieces)
				s := takeAny(t, p.Proc, method)
				defer s.Close()
				s.Release()
				s.Image()
				want := []procmem.Range{p.buffer}
				if half := procmem.Addr(p.buffer.Size() / 2); pieces == 2 {
					want = []procmem.Range{{Start: p.buffer.Start, End: p.buffer.Start + half},
						{Start: p.buffer.Start + half + procmem.PageSize, End: p.buffer.End + procmem.PageSize}}
				}
				var got []procmem.Range
				for _, torn := range s.Torn {
					if torn.Reason == tornCall {
						got = append(got, torn.Range)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("torn %v; want %v", got, want)
				}
				p.fuse.Answer()
				view, err := open(t, p.Proc).View()
				if err != nil {
					t.Fatal(err)
				}
				defer view.Close()
				testproc.Until(t, "it to go on", func() bool {
					return read(t, view, procmem.Range{Start: p.flag, End: p.flag + 8})[0] == 1
				})
			})
		}
	}
}

// What a call writes is bounded, whatever its arguments say.
func TestHostileCall(t *testing.T) {
	const far = procmem.Addr(1) << 46
	s := &Snapshot{img: procmem.Image{Arch: procmem.AMD64}}
	for i := range procmem.Addr(10000) {
		at := far + i*2*procmem.PageSize
		s.img.Mappings = append(s.img.Mappings, procmem.Mapping{Range: procmem.Range{Start: at, End: at + procmem.PageSize}, Perm: procmem.PermRead | procmem.PermWrite})
	}
	all := ^uint64(0)
	var calls []*process.Syscall
	for range 1000 {
		for number := range 512 {
			calls = append(calls, &process.Syscall{Number: number, Args: [6]uint64{uint64(far), all, all, all, all, all}},
				&process.Syscall{Number: number, Args: [6]uint64{uint64(far), uint64(far), all, uint64(far), all, 0}})
		}
	}
	s.tearCalls(calls, filled{})
	for _, torn := range s.Torn {
		if torn.Empty() || torn.End > far+1<<33 {
			t.Fatalf("torn %v", torn)
		}
	}
	if n := len(s.Torn); n != len(s.img.Mappings) {
		t.Errorf("%d ranges", n)
	}
}

// filled is memory that is 0xff everywhere.
type filled struct{}

func (filled) Mappings() ([]procmem.Mapping, error) { return nil, nil }

func (filled) ReadAt(p []byte, _ procmem.Addr) (int, error) {
	for i := range p {
		p[i] = 0xff
	}
	return len(p), nil
}
