package search

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

// solid is memory at base that is all there.
func solid(base procmem.Addr, b []byte) *fake {
	m := &fake{base: base, maps: []procmem.Mapping{{Range: procmem.Range{Start: base, End: base + procmem.Addr(len(b))}}}}
	for p := range slices.Chunk(b, page) {
		m.pages = append(m.pages, p)
	}
	return m
}

// places returns where the matches are.
func places(t *testing.T, s *Searcher, mem procmem.Memory) (out []procmem.Range) {
	t.Helper()
	for m, err := range s.Matches(t.Context(), mem) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m.Range)
	}
	return out
}

// A match prints with its bytes.
func TestMatchPrints(t *testing.T) {
	for m, err := range must(New([]Pattern{must(Literal([]byte("a\n"), false))}, Options{})).Matches(t.Context(), solid(page, []byte("ba\nb"))) {
		if got := fmt.Sprint(m); err != nil || got != `0x1001-0x1003: "a\n"` {
			t.Error(got, err)
		}
	}
}

// Nothing is found in memory that holds nothing, and nothing by no pattern.
func TestEmpty(t *testing.T) {
	some := []Pattern{must(Literal([]byte("a"), false))}
	for _, c := range []struct {
		patterns []Pattern
		o        Options
		mem      procmem.Memory
	}{
		{some, Options{}, &fake{}},
		{some, Options{In: []procmem.Range{}}, solid(page, bytes.Repeat([]byte("a"), page))},
		{some, Options{In: []procmem.Range{{Start: 2 * page, End: page}}}, solid(page, bytes.Repeat([]byte("a"), page))},
		{nil, Options{}, solid(page, bytes.Repeat([]byte("a"), page))},
		{[]Pattern{{}}, Options{}, solid(page, bytes.Repeat([]byte("a"), page))},
	} {
		if got := places(t, must(New(c.patterns, c.o)), c.mem); got != nil {
			t.Errorf("%v in %v: %v", c.patterns, c.o.In, got)
		}
	}
}

// The last addresses that there are can be searched, all but the very last byte,
// which no range holds.
func TestLastAddresses(t *testing.T) {
	b := slices.Repeat([]byte("."), 3*page)
	copy(b[2*page-2:], "abc")
	copy(b[len(b)-4:], "abc")
	m := solid(^procmem.Addr(3*page-1), b)
	m.maps[0].End = ^procmem.Addr(0)
	want := []procmem.Range{{Start: ^procmem.Addr(page + 1), End: ^procmem.Addr(page - 2)}, {Start: ^procmem.Addr(3), End: ^procmem.Addr(0)}}
	for _, p := range []Pattern{must(Literal([]byte("abc"), false)), must(ParseRegexp("[a-c]+", false)), must(ParseHex("61 6? 63"))} {
		for _, in := range [][]procmem.Range{nil, {{Start: 1, End: ^procmem.Addr(0)}}, {{Start: ^procmem.Addr(2 * page), End: ^procmem.Addr(0)}}} {
			s := must(New([]Pattern{p}, Options{In: in, Context: 8}))
			s.blockSize = page
			if got := places(t, s, sparseFake{m}); !slices.Equal(got, want) {
				t.Errorf("%v in %v: %v; want %v", p, in, got, want)
			}
		}
	}
}

// A run that goes on for many blocks comes in pieces from its start on, however
// it is cut into blocks.
func TestLongRuns(t *testing.T) {
	b := slices.Repeat([]byte("a"), 60*page)
	b[0], b[5], b[len(b)-2] = 0, 0, 0
	m := solid(page, b)
	piece := func(i, j int) procmem.Range {
		return procmem.Range{Start: page + procmem.Addr(i), End: page + procmem.Addr(min(j, len(b)-2))}
	}
	var want []procmem.Range
	for i := 6; i < len(b)-2; i += MaxString {
		want = append(want, piece(i, i+MaxString))
	}
	for _, size := range []int{page, 3 * page, 64 * page} {
		s := must(NewStrings(StringsOptions{Min: 6}, Options{}))
		s.blockSize = size
		if got := places(t, s, m); !slices.Equal(got, want) {
			t.Errorf("strings in blocks of %d: %v; want %v", size, got, want)
		}
		n := 0
		for text, err := range s.Text(t.Context(), m, say) {
			if n += bytes.Count(text, []byte("true\n")); err != nil {
				t.Fatal(err)
			}
		}
		if n != len(want)-1 {
			t.Errorf("strings in blocks of %d: %d pieces go on; want %d", size, n, len(want)-1)
		}
		s = must(New([]Pattern{must(ParseRegexp("aaaaaa+", false))}, Options{}))
		s.blockSize = size
		if got := places(t, s, m); !slices.Equal(got, want) {
			t.Errorf("a regexp in blocks of %d: %v; want %v", size, got, want)
		}
	}
}

// goroutines waits until there are no more than that.
func goroutines(t *testing.T, most int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > most; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines are left; there were %d", runtime.NumGoroutine(), most)
		}
	}
}

// Whoever does not want more leaves nothing behind, however it ends.
func TestEndsEarly(t *testing.T) {
	m := solid(page, bytes.Repeat([]byte("a"), 500*page))
	s := must(New([]Pattern{must(Literal([]byte("a"), false)), must(ParseRegexp("a{1,3}", false))}, Options{}))
	s.blockSize = page
	before := runtime.NumGoroutine()
	for _, stop := range []int{0, 1, 5000, 100000} {
		n := 0
		for _, err := range s.Matches(t.Context(), m) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n > stop {
				break
			}
		}
		goroutines(t, before)

		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		n = 0
		var last error
		for _, err := range s.Matches(ctx, m) {
			if last != nil {
				t.Fatal("more after an error")
			}
			if last = err; n == stop {
				cancel(why)
			}
			n++
		}
		if !errors.Is(last, why) {
			t.Errorf("canceled after %d: %v; want %v", stop, last, why)
		}
		goroutines(t, before)

		func() {
			defer func() { _ = recover() }()
			n := 0
			for range s.Matches(t.Context(), m) {
				if n++; n > stop {
					panic("in the body")
				}
			}
		}()
		goroutines(t, before)
	}
	// One that was canceled before.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.Matches(ctx, m) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	goroutines(t, before)
}

// zeros is memory without an end that matches everywhere.
type zeros struct{ size procmem.Addr }

func (m zeros) Mappings() ([]procmem.Mapping, error) {
	return []procmem.Mapping{{Range: procmem.Range{Start: page, End: page + m.size}}}, nil
}

func (m zeros) ReadAt(p []byte, _ procmem.Addr) (int, error) { clear(p); return len(p), nil }

// As many matches as there are bytes do not need more memory than few.
func TestMemoryIsBounded(t *testing.T) {
	s := must(New([]Pattern{must(ParseValue(U8, "0", ValueOptions{})), must(ParseHex("00 0?")), must(ParseRegexp(`\x00`, false))}, Options{}))
	var n int
	peak := uint64(0)
	for _, err := range s.Matches(t.Context(), zeros{2 << 20}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n%(1<<20) == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	if want := 3*2<<20 - 1; n != want {
		t.Errorf("%d matches; want %d", n, want)
	}
	if peak > 64<<20 {
		t.Errorf("up to %d MiB", peak>>20)
	}
}

// The text of more matches than a block has at once is whole, in parts that are
// not larger for that; and each match goes on where the last one ends.
func TestTextOfMany(t *testing.T) {
	const size = 2<<20 + page
	s := must(New([]Pattern{must(ParseValue(U8, "0", ValueOptions{}))}, Options{}))
	var all []byte
	for text, err := range s.Text(t.Context(), zeros{size}, func(text []byte, _ *Match, goesOn bool) []byte {
		return strconv.AppendBool(text, goesOn)
	}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 4*(maxHits+windowSize)+1 {
			t.Errorf("%d bytes of text at once", len(text))
		}
		all = append(all, text...)
	}
	if want := "false" + strings.Repeat("true", size-1); string(all) != want {
		t.Errorf("%d bytes of text begin with %.40q; want %d bytes", len(all), all, len(want))
	}
}

// failing cannot say what is there.
type failing struct{ *fake }

func (m failing) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		_ = yield(procmem.Range{Start: page, End: 2 * page}, nil) && yield(procmem.Range{}, procmem.ErrGone)
	}
}

// What was found before an error comes before it.
func TestErrorOfMemory(t *testing.T) {
	var all []string
	s := must(New([]Pattern{must(Literal([]byte("ab"), false))}, Options{}))
	for m, err := range s.Matches(t.Context(), failing{solid(page, append([]byte("ab"), make([]byte, 2*page-2)...))}) {
		all = append(all, fmt.Sprint(m.Start, " ", err))
	}
	if want := []string{"0x1000 <nil>", "0x0 " + procmem.ErrGone.Error()}; !slices.Equal(all, want) {
		t.Errorf("%q; want %q", all, want)
	}
}

// partly is memory of which some pages are swapped out.
type partly struct {
	sparseFake
	swapped map[int]bool
}

func (m partly) Resident(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for x, err := range m.Data(r) {
			if k := int((x.Start - m.base) / page); !m.swapped[k] && !yield(x, err) {
				return
			}
		}
	}
}

// What is swapped out is left alone, by the context of a match too, and counted.
func TestSwapped(t *testing.T) {
	b := bytes.Repeat([]byte("."), 5*page)
	for k := range 5 {
		copy(b[k*page+page-3:], "abc")
	}
	m := partly{sparseFake{solid(page, b)}, map[int]bool{1: true, 3: true}}
	for _, swapped := range []bool{false, true} {
		s := must(New([]Pattern{must(Literal([]byte("abc"), false))}, Options{Swapped: swapped, Context: 16}))
		var got []string
		for x, err := range s.Matches(t.Context(), m) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(x.Start, len(x.After)))
		}
		want, out := []string{"0x1ffd 16", "0x2ffd 16", "0x3ffd 16", "0x4ffd 16", "0x5ffd 0"}, uint64(0)
		if !swapped {
			want, out = []string{"0x1ffd 0", "0x3ffd 0", "0x5ffd 0"}, 2*page
		}
		if st := s.Stats(); !slices.Equal(got, want) || st.Swapped != out || st.Scanned != 5*page-out {
			t.Errorf("%q, %+v; want %q and %d bytes swapped out", got, st, want, out)
		}
	}
}

func TestFaults(t *testing.T) {
	m := solid(page, bytes.Repeat([]byte("ab"), 5*page/2))
	m.pages[1], m.pages[3] = nil, nil
	s := must(New([]Pattern{must(Literal([]byte("ba"), false))}, Options{}))
	s.blockSize = page
	got := places(t, s, m)
	want := []procmem.Fault{{Range: procmem.Range{Start: 2 * page, End: 3 * page}, Err: procmem.ErrUnreadable},
		{Range: procmem.Range{Start: 4 * page, End: 5 * page}, Err: procmem.ErrUnreadable}}
	if st := s.Stats(); !slices.Equal(st.Faults, want) || len(got) != 3*(page/2-1) || st.Scanned != 3*page {
		t.Errorf("%d matches, %+v; want %v", len(got), st, want)
	}
}

func TestParseHex(t *testing.T) {
	for _, c := range []struct{ in, value, mask string }{
		{"de ad ?? ef", "dead00ef", "ffff00ff"},
		{"dEad??eF", "dead00ef", "ffff00ff"},
		{" d? ?f\t", "d00f", "f00f"},
		{"0", "", ""}, {"", "", ""}, {"d ef", "", ""}, {"xx", "", ""}, {"?? ??", "", ""}, {"0x4", "", ""}, {"0x", "", ""},
		{"0x41d?", "41d0", "fff0"}, {"41:d?", "41d0", "fff0"}, {`\x41\xd?`, "41d0", "fff0"}, {"0X41 0x42", "4142", "ffff"},
	} {
		p, err := ParseHex(c.in)
		if got := fmt.Sprintf("%x %x", p.value, p.mask); got != c.value+" "+c.mask || (err != nil) != (c.value == "") {
			t.Errorf("%q: %s, %v", c.in, got, err)
		}
		if err == nil && p.String() != c.in {
			t.Errorf("%q is written as %q", c.in, p)
		}
	}
}

func TestParseValue(t *testing.T) {
	const one = 0x3f800000
	for _, c := range []struct {
		t    Type
		in   string
		o    ValueOptions
		want string // spans, or a part of the error
	}{
		{U8, "255", ValueOptions{}, "[{255 0}]"},
		{U8, "256", ValueOptions{}, "out of range"},
		{U8, "-1", ValueOptions{}, "unsigned"},
		{I8, "-1", ValueOptions{}, "[{255 0}]"},
		{I8, "-128..127", ValueOptions{}, "[{128 255}]"},
		{I16, "-2..2", ValueOptions{}, "[{65534 4}]"},
		{I16, "-0x10", ValueOptions{}, "[{65520 0}]"},
		{I32, "0x80000000", ValueOptions{}, "out of range"},
		{U64, "0xffffffffffffffff", ValueOptions{}, "[{18446744073709551615 0}]"},
		{U64, "0..0xffffffffffffffff", ValueOptions{}, "[{0 18446744073709551615}]"},
		{U32, "20..10", ValueOptions{}, "before it begins"},
		{U32, "1..", ValueOptions{}, "invalid syntax"},
		{U32, "1..2..3", ValueOptions{}, "invalid syntax"},
		{U32, "+1", ValueOptions{}, "invalid syntax"},
		{U32, "010", ValueOptions{}, "[{10 0}]"},
		{U32, "0x0x1", ValueOptions{}, "invalid syntax"},
		{U32, "1", ValueOptions{Align: 3}, "power of two"},
		{U32, "1", ValueOptions{Align: -4}, "power of two"},
		{Ptr, "1", ValueOptions{Word: 5}, "want 4 or 8"},
		{Ptr, "0x100000000", ValueOptions{Word: 4}, "out of range"},
		{F32, "1", ValueOptions{}, fmt.Sprintf("[{%d 0}]", one)},
		{F32, "0", ValueOptions{}, "[{2147483648 0} {0 0}]"},
		{F32, "-1", ValueOptions{}, fmt.Sprintf("[{%d 0}]", uint32(one|1<<31))},
		{F32, "inf", ValueOptions{Tolerance: 1}, "[{2139095040 0}]"},
		{F32, "nan", ValueOptions{}, "[{2139095041 8388606} {4286578689 8388606}]"},
		{F32, "0..nan", ValueOptions{}, "no range"},
		{F32, "1", ValueOptions{Tolerance: -1}, "tolerance"},
		{F32, "2..1", ValueOptions{}, "before it begins"},
		{U8, ">5", ValueOptions{}, "[{6 249}]"},
		{U8, "< 5", ValueOptions{}, "[{0 4}]"},
		{U64, ">=0", ValueOptions{}, "[{0 18446744073709551615}]"},
		{I16, ">-3", ValueOptions{}, "[{65534 32769}]"},
		{I8, "<=-128", ValueOptions{}, "[{128 0}]"},
		{I8, "<-128", ValueOptions{}, "no i8 is that"},
		{U32, ">4294967295", ValueOptions{}, "no u32 is that"},
		{U32, ">", ValueOptions{}, "invalid syntax"},
		{F32, ">1", ValueOptions{}, fmt.Sprintf("[{%d %d}]", one+1, 0x7f800000-one-1)},
		{F32, ">=2", ValueOptions{Tolerance: 1}, fmt.Sprintf("[{%d %d}]", one, 0x7f800000-one)},
		{F32, "<nan", ValueOptions{}, "neither greater nor less"},
		{F64, ">inf", ValueOptions{}, "no f64 is that"},
		{F64, "-0.5..0.5", ValueOptions{}, "[{9223372036854775808 4602678819172646912} {0 4602678819172646912}]"},
	} {
		p, err := ParseValue(c.t, c.in, c.o)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(p.number.spans)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%v %q: %s; want %s", c.t, c.in, got, c.want)
		}
	}
	// What digits tell.
	for in, c := range map[string][2][]float64{ // what is found and what is not
		"3.14":  {{3.1351, 3.14, 3.1449}, {3.1349, 3.1451, -3.14}},
		"0.0":   {{-0.049, 0, 0.049}, {0.051, -0.051}},
		"1.5e3": {{1451, 1549}, {1449, 1551}},
		"100":   {{100}, {100.1, 99.9, math.NaN()}},
	} {
		p := must(ParseValue(F64, in, ValueOptions{}))
		for want, vs := range map[bool][]float64{true: c[0], false: c[1]} {
			for _, v := range vs {
				b := must((&number{size: 8, spans: []valueRange{{math.Float64bits(v), 0}}}).bytes())
				if p.at(b, 0) != want {
					t.Errorf("%s finds %v: %v; want %v", in, v, !want, want)
				}
			}
		}
	}
}

func (n *number) bytes() ([]byte, error) {
	b, _ := n.exact()
	return b, nil
}

func TestPointerTo(t *testing.T) {
	for _, c := range []struct {
		r    procmem.Range
		o    ValueOptions
		want string
	}{
		{procmem.Range{Start: 0x1000, End: 0x2000}, ValueOptions{}, "[{4096 4095}]"},
		{procmem.Range{Start: ^procmem.Addr(9), End: ^procmem.Addr(0)}, ValueOptions{}, "[{18446744073709551606 8}]"},
		{procmem.Range{Start: 0xfffff000, End: 0x100002000}, ValueOptions{Word: 4}, "[{4294963200 4095}]"},
		{procmem.Range{Start: 0x100000000, End: 0x100002000}, ValueOptions{Word: 4}, "beyond"},
		{procmem.Range{Start: 5, End: 5}, ValueOptions{}, "empty"},
	} {
		p, err := PointerTo(c.r, c.o)
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint(p.number.spans)
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%v: %s; want %s", c.r, got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	long := bytes.Repeat([]byte("a"), MaxLength+1)
	for name, err := range map[string]error{
		"empty literal": second(Literal(nil, false)), "long literal": second(Literal(long, false)),
		"empty UTF-16": second(LiteralUTF16("", false)), "regexp": second(ParseRegexp("(", false)),
		"context": second(New(nil, Options{Context: -1})), "strings": second(NewStrings(StringsOptions{Min: MaxString + 1}, Options{})),
		"type": second(ParseType("u33")), "encoding": second(ParseEncoding("x")),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	must(Literal(long[1:], true))
}

func second[T any](_ T, err error) error { return err }

// Literals of different lengths are looked for at the same places, but for those
// so short that fewer bytes must do.
func TestGroupsOfLiterals(t *testing.T) {
	var patterns []Pattern
	var indices []int
	for i, length := range []int{16, 8, 11, 7, 3, 4, 16} {
		patterns = append(patterns, must(Literal([]byte("abcdefghijklmnop")[:length], false)))
		indices = append(indices, i)
	}
	finders, rest := newSamples(patterns, indices)
	var steps []int
	for _, f := range finders {
		steps = append(steps, f.(*samples).step)
	}
	if want := []int{4, 1}; !slices.Equal(steps, want) || rest != nil {
		t.Errorf("looks at every %v bytes, and %v are left; want %v", steps, rest, want)
	}
}

// A value is held wherever it lies, and only by a number of its size.
func TestHolds(t *testing.T) {
	b := []byte{0x88, 0x77, 0x66, 0x55}
	for _, c := range []struct {
		p    Pattern
		b    []byte
		want bool
	}{
		{must(ParseValue(U32, "0x55667788", ValueOptions{})), b, true},
		{must(ParseValue(U32, "0x55667788", ValueOptions{BigEndian: true})), b, false},
		{must(ParseValue(U32, "0x55667788", ValueOptions{Align: 4096})), b, true},
		{must(ParseValue(U32, "1..0x55667788", ValueOptions{})), b, true},
		{must(ParseValue(U32, "1..2", ValueOptions{})), b, false},
		{must(ParseValue(U16, "0x7788", ValueOptions{})), b, false},
		{must(ParseValue(U64, "0x55667788", ValueOptions{})), b, false},
		{must(PointerTo(procmem.Range{Start: 0x55667780, End: 0x55667790}, ValueOptions{Word: 4})), b, true},
		{must(Literal(b, false)), b, false},
		{Pattern{}, b, false},
		{Pattern{}, nil, false},
	} {
		if c.p.Holds(c.b) != c.want {
			t.Errorf("%v holds %x: %v", c.p, c.b, !c.want)
		}
	}
}

// One value is less than another as a number of its type.
func TestLess(t *testing.T) {
	for _, c := range []struct {
		typ  Type
		o    ValueOptions
		a, b []byte
		want bool
	}{
		{U8, ValueOptions{}, []byte{1}, []byte{0xff}, true},
		{I8, ValueOptions{}, []byte{1}, []byte{0xff}, false},
		{U16, ValueOptions{}, []byte{2, 1}, []byte{1, 2}, true},
		{U16, ValueOptions{BigEndian: true}, []byte{2, 1}, []byte{1, 2}, false},
		{I16, ValueOptions{BigEndian: true}, []byte{0xff, 0}, []byte{0, 0}, true},
		{I64, ValueOptions{}, []byte{7: 0x80}, []byte{7: 0x7f}, true},
		{U64, ValueOptions{}, []byte{7: 0x80}, []byte{7: 0x7f}, false},
		{Ptr, ValueOptions{Word: 4}, []byte{3: 0x7f}, []byte{3: 0x80}, true},
		{Ptr, ValueOptions{}, []byte{7: 0x7f}, []byte{7: 0x80}, true},
		{F64, ValueOptions{BigEndian: true}, []byte{0xbf, 0xf0, 7: 0}, []byte{0x3f, 0xf0, 7: 0}, true},
		{F64, ValueOptions{BigEndian: true}, []byte{0x3f, 0xf0, 7: 0}, []byte{0x7f, 0xf8, 7: 0}, false},
		{F32, ValueOptions{BigEndian: true}, []byte{0x3f, 0x80, 0, 0}, []byte{0x40, 0, 0, 0}, true},
	} {
		less := c.typ.Less(c.o)
		if less(c.a, c.b) != c.want || less(c.a, c.a) || c.want && less(c.b, c.a) {
			t.Errorf("%v %+v: %x is less than %x: %v", c.typ, c.o, c.a, c.b, !c.want)
		}
	}
}
