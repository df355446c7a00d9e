package checksums

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
)

const page = procmem.PageSize

func anywhere(procmem.Range) bool { return true }

// sample returns a descriptor of two spans, and of memory with a hole.
func sample(t testing.TB) (desc []byte, spans []Span, pages *Pages) {
	t.Helper()
	pages = NewPages()
	pages.Set(0x10000, bytes.Repeat([]byte("procmem "), 3*page/8))
	pages.Set(0x20000, bytes.Repeat([]byte("checksum"), page/8))
	spans = []Span{SpanOf(0, []byte("head")), SpanOf(4, []byte("notes"))}
	extents := pages.Extents(slices.Values([]pageset.Place{{Range: procmem.Range{Start: 0x10000, End: 0x30000}}}), false)
	size, n := Size(len(spans), extents)
	err := Write(n, spans, extents, func(p []byte) error {
		desc = append(desc, p...)
		return nil
	})
	if err != nil || n != 2 || int64(len(desc)) != size {
		t.Fatalf("%d extents in %d bytes, want %d: %v", n, len(desc), size, err)
	}
	return desc, spans, pages
}

func TestNote(t *testing.T) {
	desc, want, pages := sample(t)
	size := int64(len(desc))
	spans, got, err := Read(bytes.NewReader(desc), 0, size, anywhere)
	if err != nil || !slices.Equal(spans, want) {
		t.Fatalf("%v, %v", spans, err)
	}
	for a := procmem.Addr(0x10000); a < 0x30000; a += page {
		if got.of(a) != pages.of(a) {
			t.Errorf("page %v: %#x, want %#x", a, got.of(a), pages.of(a))
		}
	}
	if spans, err := ReadSpans(bytes.NewReader(desc), 0, size); err != nil || !slices.Equal(spans, want) {
		t.Errorf("spans alone: %v, %v", spans, err)
	}
	for i := range desc {
		bad := bytes.Clone(desc)
		bad[i] ^= 1
		if _, _, err := Read(bytes.NewReader(bad), 0, size, anywhere); !errors.Is(err, errDamaged) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if _, _, err := Read(bytes.NewReader(desc), 0, size, func(procmem.Range) bool { return false }); !errors.Is(err, errDamaged) {
		t.Errorf("memory that is not there: %v", err)
	}
	failed := errors.New("disk full")
	if err := Write(0, want, slices.Values([]Extent{}), func([]byte) error { return failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
}

func TestSpanMatch(t *testing.T) {
	file := []byte("headnotes")
	s := SpanOf(4, file[4:])
	if same, err := s.Match(bytes.NewReader(file)); !same || err != nil {
		t.Errorf("%v, %v", same, err)
	}
	if same, err := s.Match(bytes.NewReader([]byte("headNotes"))); same || err != nil {
		t.Errorf("changed: %v, %v", same, err)
	}
}

// FuzzRead reads anything as a descriptor.
func FuzzRead(f *testing.F) {
	desc, _, _ := sample(f)
	f.Add(desc)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < MinSize {
			return
		}
		spans, _, err := Read(bytes.NewReader(b), 0, int64(len(b)), anywhere)
		if err != nil {
			return
		}
		if again, err := ReadSpans(bytes.NewReader(b), 0, int64(len(b))); err != nil || !slices.Equal(again, spans) {
			t.Fatalf("spans %v, and alone %v, %v", spans, again, err)
		}
	})
}
