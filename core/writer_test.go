package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem"
)

// failing fails after n bytes.
type failing struct{ n int }

var errFull = errors.New("no space left")

func (f *failing) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

type failingAt struct{ limit int64 }

func (f *failingAt) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.limit {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteError(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	segs := Select(img, fake, FilterDefault)
	for name, w := range map[string]*Writer{
		"stream":        mustStream(t, &failing{n: 3 << 20}, img, segs),
		"stream header": mustStream(t, &failing{n: 10}, img, segs),
		"file":          mustFile(t, &failingAt{limit: 1 << 20}, img, segs),
	} {
		if err := w.Copy(t.Context(), fake); !errors.Is(err, errFull) || !strings.Contains(err.Error(), "offset 0x") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, w := range map[string]*Writer{"stream": mustStream(t, io.Discard, img, segs), "file": mustFile(t, &memFile{}, img, segs)} {
		if err := w.Copy(ctx, fake); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: cancelled: %v", name, err)
		}
	}
}

// A stream cannot grow its report, and says how much it leaves out.
func TestReportWithoutRoom(t *testing.T) {
	m := newFake(anon(0x100000, 0x100000+40_000*page, rw, ""))
	for i := range procmem.Addr(20_000) {
		m.faults[0x100000+2*i*page] = syscall.EFAULT
	}
	img := fakeImage(procmem.AMD64, m.maps)
	for i := range 3000 {
		img.Threads = append(img.Threads, procmem.Thread{TID: 1000 + i, Err: errors.New(strings.Repeat("why", 200))})
	}
	segs := Select(img, m, FilterDefault)
	for _, stream := range []bool{true, false} {
		rep := &Report{Torn: make([]Torn, 10_000)}
		b, w := writeCore(t, img, m, segs, stream, rep)
		if len(w.Faults()) != 20_000 || len(rep.Missing) != 20_000 || rep.MissingMore != 0 {
			t.Errorf("the caller's report is short: %d missing", len(rep.Missing))
		}
		f, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		got := f.Report()
		if got == nil {
			t.Fatal("no report")
		}
		if !stream && (len(got.Missing) != 20_000 || len(got.ThreadsMissing) != 3000) {
			t.Errorf("a file holds %d of the ranges", len(got.Missing))
		}
		if stream && (got.MissingMore == 0 || len(got.ThreadsMissing) == 0 || got.ThreadsMissingMore == 0) {
			t.Errorf("a stream: %d missing and %d more", len(got.Missing), got.MissingMore)
		}
		if len(rep.Torn) != 10_000 || len(got.Torn)+got.TornMore != 10_000 || stream != (got.TornMore > 0) {
			t.Errorf("%d torn and %d more", len(got.Torn), got.TornMore)
		}
		if len(got.Missing)+got.MissingMore != 20_000 || uint64(len(got.Missing))*page+got.MissingMoreBytes != 20_000*page ||
			len(got.ThreadsMissing)+got.ThreadsMissingMore != 3000 {
			t.Errorf("counts do not add up: %d and %d more", len(got.Missing), got.MissingMore)
		}
	}
}

// A stream has room for some torn memory, and lists are never null.
func TestReportOfTornMemory(t *testing.T) {
	img, fake := scene(procmem.AMD64)
	segs := Select(img, fake, FilterDefault)
	rep := &Report{Torn: []Torn{{rng(0x1000, 0x3000), 0x2000, "shared"}}, Rounds: 4, Why: "it is asked to be short"}
	for range 300 {
		rep.Torn = append(rep.Torn, Torn{rng(0x7f0000001000, 0x7f0000003000), 0x2000, "shared with other processes, which may have written it"})
	}
	b, _ := writeCore(t, img, fake, segs, true, rep)
	f, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Report(); !reflect.DeepEqual(got, rep) || got.TornMore != 0 {
		t.Errorf("%d torn, %d more", len(got.Torn), got.TornMore)
	}
	for _, text := range []string{"{}", `{"torn":null,"missing":null,"threads_missing":null}`} {
		if r, err := decodeReport([]byte(text)); err != nil || r.Torn == nil || r.Missing == nil || r.ThreadsMissing == nil {
			t.Errorf("%s: a list is null, %v", text, err)
		}
	}
	var empty Report
	empty.addFaults(nil)
	if b, err := empty.encode(1 << 20); err != nil || !bytes.Contains(b, []byte(`"torn":[]`)) || bytes.Contains(b, []byte("null")) {
		t.Errorf("%s, %v", b, err)
	}
}

// An entry of a list prints with its reason.
func TestReasonsPrint(t *testing.T) {
	got := fmt.Sprint(Missing{rng(0x1000, 0x2000), 0x1000, "lost"}, Torn{rng(0x2000, 0x3000), 0x1000, "shared"})
	if got != "0x1000-0x2000: lost 0x2000-0x3000: shared" {
		t.Error(got)
	}
}

// A process may map the address zero (vm.mmap_min_addr, as for dosemu), and
// the last page below 2^64 that a range can end at.
func TestExtremeAddresses(t *testing.T) {
	const top = procmem.Addr(0xfffffffffffff000)
	m := newFake(anon(0, 2*page, rw, ""), anon(2*page, 3*page, procmem.PermRead, ""), anon(top-2*page, top, rw, ""))
	for i := range m.maps {
		m.fill(m.maps[i].Range)
		m.maps[i].Usage = &procmem.Usage{Anonymous: page}
	}
	img := fakeImage(procmem.AMD64, m.maps)
	for _, mem := range []procmem.Memory{m, sparseMemory{m}} {
		b, _ := writeCore(t, img, mem, Select(img, mem, FilterDefault), false, &Report{})
		f, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, page)
		for a, want := range m.pages {
			if _, err := f.ReadAt(got, a); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v differs: %v", a, err)
			}
		}
	}
}

// scattered tells of data in the way that a core file with unaligned segments
// may: in pieces that neither begin nor end with a page.
type scattered struct{ *fakeMemory }

func (m scattered) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for piece := range sparseMemory(m).Data(r) {
			mid := piece.Start + 100
			if !yield(rng(mid, mid+8), nil) || !yield(rng(mid+8, piece.End-1), nil) {
				return
			}
		}
	}
}

// Neighbouring segments whose distance in memory is not that in the file, with
// scattered pages, into a file that has been made too long beforehand.
func TestScattered(t *testing.T) {
	m := newFake()
	for i := range procmem.Addr(50) {
		at := 0x100000 + i*20*page
		m.maps = append(m.maps, anon(at, at+17*page, rw, ""))
		for k := range 8 + i%9 {
			m.pages[at+(k*7+i)%17*page] = pattern(at + k*page)
		}
	}
	m.faults[0x100000+20*page] = syscall.EIO
	img := fakeImage(procmem.AMD64, m.maps)
	segs := Select(img, m, FilterDefault)
	file := memFile{b: make([]byte, 8<<20)}
	w := mustFile(t, &file, img, segs)
	if err := w.Copy(t.Context(), scattered{m}); err != nil {
		t.Fatal(err)
	}
	rep := &Report{}
	if err := w.Finish(img, rep); err != nil {
		t.Fatal(err)
	}
	if int64(len(file.b)) != rep.FileBytes {
		t.Errorf("%d bytes, report says %d", len(file.b), rep.FileBytes)
	}
	f, err := NewReader(bytes.NewReader(file.b), int64(len(file.b)))
	if err != nil {
		t.Fatal(err)
	}
	got, want := make([]byte, page), make([]byte, page)
	for _, s := range segs {
		for a := s.Start; a < s.End; a += page {
			if m.faults[a] != nil {
				continue
			}
			if _, err := m.ReadAt(want, a); err != nil {
				t.Fatal(err)
			}
			if _, err := f.ReadAt(got, a); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v differs: %v", a, err)
			}
		}
	}
}

// dying is a Memory whose Data ends with an error.
type dying struct{ *fakeMemory }

func (m dying) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		if yield(rng(r.Start, r.Start+page), nil) {
			yield(procmem.Range{}, &procmem.FaultError{Addr: r.Start + page, Err: procmem.ErrGone})
		}
	}
}

func TestDataError(t *testing.T) {
	m := newFake(anon(0x10000, 0x20000, rw, ""), anon(0x30000, 0x31000, rw, ""))
	m.fill(m.maps[0].Range)
	img := fakeImage(procmem.AMD64, m.maps)
	segs := Select(img, m, FilterDefault)
	_, w := writeCore(t, img, dying{m}, segs, false, &Report{})
	want := []procmem.Fault{{Range: rng(0x11000, 0x20000), Err: procmem.ErrGone}}
	if got := w.Faults(); !reflect.DeepEqual(got, want) {
		t.Errorf("faults %v, want %v", got, want)
	}
	if _, _, err := Predict(segs, dying{m}); !errors.Is(err, procmem.ErrGone) {
		t.Errorf("predict: %v", err)
	}
}

// The report may be what makes a 32-bit core too long.
func TestReportBeyond4GiB(t *testing.T) {
	m := newFake(anon(0x1000, 0xfffe0000, rw, ""))
	img := fakeImage(procmem.I386, m.maps)
	rep := Report{Missing: make([]Missing, 10_000)}
	w := mustFile(t, discardAt{}, img, []Segment{{m.maps[0].Range, rw, true}})
	if err := w.Copy(t.Context(), sparseMemory{m}); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(img, &rep); err == nil || !strings.Contains(err.Error(), "would end at file offset 0x10") {
		t.Error(err)
	}
}

func TestLayoutErrors(t *testing.T) {
	for name, c := range map[string]struct {
		arch procmem.Arch
		segs []Segment
		want string
	}{
		"i386 beyond 4 GiB": {procmem.I386, []Segment{{rng(0x1000, 0x80000000), rw, true}, {rng(0x80000000, 0xffffe000), rw, true}, {rng(0xffffe000, 0x100000000), rw, true}}, "would end at file offset 0x100000000"},
		"i386 address":      {procmem.I386, []Segment{{rng(0xfffff000, 0x100001000), rw, false}}, "32 bits"},
		"unaligned":         {procmem.AMD64, []Segment{{rng(0x1001, 0x3000), rw, false}}, "page-aligned"},
		"overlap":           {procmem.AMD64, []Segment{{rng(0x1000, 0x3000), rw, false}, {rng(0x2000, 0x4000), rw, false}}, "behind the one before"},
		"empty":             {procmem.AMD64, []Segment{{rng(0x1000, 0x1000), rw, false}}, "empty"},
		"beyond int64":      {procmem.AMD64, []Segment{{rng(0x1000, 0x8000000000001000), rw, true}}, "would end at file offset"},
		"unknown":           {procmem.ArchUnknown, nil, "architecture unknown"},
	} {
		_, err := NewFileWriter(discardAt{}, c.arch, c.segs)
		if err == nil || !strings.HasPrefix(err.Error(), "lay out core: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
