package search

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"

	"github.com/procmem/procmem"
)

const page = procmem.PageSize

// fake is memory in pages: what a page holds, nil where it cannot be read.
type fake struct {
	base   procmem.Addr
	pages  [][]byte
	maps   []procmem.Mapping
	absent map[int]bool // of pages
}

func (m *fake) Mappings() ([]procmem.Mapping, error) { return m.maps, nil }

func (m *fake) mapped(a procmem.Addr) bool {
	k := procmem.FindMapping(m.maps, a)
	return k < len(m.maps) && m.maps[k].Contains(a)
}

func (m *fake) ReadAt(p []byte, a procmem.Addr) (n int, err error) {
	for n < len(p) {
		at := a + procmem.Addr(n)
		k := int((at - m.base) / page)
		switch {
		case !m.mapped(at):
			return n, &procmem.FaultError{Addr: at, Err: procmem.ErrNotMapped}
		case m.absent[k]:
			panic(fmt.Sprintf("%v is absent and was touched", at))
		case m.pages[k] == nil:
			return n, &procmem.FaultError{Addr: at, Err: procmem.ErrUnreadable}
		}
		n += copy(p[n:], m.pages[k][(at-m.base)%page:])
	}
	return n, nil
}

// sparseFake knows which pages are absent.
type sparseFake struct{ *fake }

func (m sparseFake) Data(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for k := range m.pages {
			a := m.base + procmem.Addr(k)*page
			x := r.Intersect(procmem.Range{Start: a, End: a + page})
			if a+page < a { // the last byte of all is in no range
				x = r.Intersect(procmem.Range{Start: a, End: ^procmem.Addr(0)})
			}
			if !x.Empty() && m.mapped(x.Start) && !m.absent[k] && !yield(x, nil) {
				return
			}
		}
	}
}

// solidMemory is memory without a gap.
type solidMemory struct {
	addr procmem.Addr
	b    []byte
}

// stretches returns the runs of memory that is to be searched.
func (m *fake) stretches(in []procmem.Range) (out []solidMemory) {
	for k, p := range m.pages {
		for i := range p {
			a := m.base + procmem.Addr(k*page+i)
			wanted := in == nil || slices.ContainsFunc(in, func(r procmem.Range) bool { return r.Contains(a) })
			if !wanted || m.absent[k] || !m.mapped(a) {
				continue
			}
			if n := len(out) - 1; n >= 0 && out[n].addr+procmem.Addr(len(out[n].b)) == a {
				out[n].b = append(out[n].b, p[i])
			} else {
				out = append(out, solidMemory{a, []byte{p[i]}})
			}
		}
	}
	return out
}

// naive returns what a pattern must match in a solidMemory.
func naive(p *Pattern, x solidMemory) (out []procmem.Range) {
	add := func(i, j int) {
		out = append(out, procmem.Range{Start: x.addr + procmem.Addr(i), End: x.addr + procmem.Addr(j)})
	}
	if p.expr != nil {
		for _, f := range regexp.MustCompile(p.text).FindAllIndex(x.b, -1) {
			add(f[0], f[1])
		}
		return out
	}
	for i := range x.b {
		if p.at(x.b[i:], x.addr+procmem.Addr(i)) {
			add(i, i+p.fixed())
		}
	}
	return out
}

// naiveStrings reads a solidMemory as strings(1) does: a character after the other,
// and where one is none, again from the next byte on.
func naiveStrings(o StringsOptions, x solidMemory) (out []procmem.Range) {
	w := o.Encoding.Width()
	char := func(i int) bool {
		if i+w > len(x.b) {
			return false
		}
		var c uint32
		for k := range w {
			if o.Encoding == UTF16BE || o.Encoding == UTF32BE {
				c = c<<8 | uint32(x.b[i+k])
			} else {
				c |= uint32(x.b[i+k]) << (8 * k)
			}
		}
		return c == '\t' || c >= 0x20 && c < 0x7f || c > 0x7f && c < 256 && o.Encoding == Latin
	}
	for i := 0; i < len(x.b); i++ {
		j := i
		for char(j) {
			j += w
		}
		if j-i >= o.Min*w {
			for k := i; k < j; k += MaxString {
				out = append(out, procmem.Range{Start: x.addr + procmem.Addr(k), End: x.addr + procmem.Addr(min(j, k+MaxString))})
			}
		}
		i = j
	}
	return out
}

// randomFake has needles of the alphabet in it.
func randomFake(random *rand.Rand, alphabet string) *fake {
	m := &fake{base: procmem.Addr(1+random.IntN(1000)) * page, absent: map[int]bool{}}
	if random.IntN(4) == 0 {
		m.base = ^procmem.Addr(40*page - 1)
	}
	n := 1 + random.IntN(19)
	for k := range n {
		p := make([]byte, page)
		for i := range p {
			p[i] = alphabet[random.IntN(len(alphabet))]
		}
		switch random.IntN(12) {
		case 0:
			p = nil
		case 1:
			m.absent[k] = true
		case 2:
			clear(p)
		case 3:
			p = slices.Repeat([]byte{alphabet[0]}, page)
		}
		m.pages = append(m.pages, p)
	}
	for a, end := m.base, m.base+procmem.Addr(n)*page; a < end; {
		x := procmem.Range{Start: a, End: a + min(end-a, procmem.Addr(1+random.IntN(12))*page)}
		m.maps = append(m.maps, procmem.Mapping{Range: x})
		if a = x.End; random.IntN(3) == 0 && a < end {
			a += page
		}
	}
	return m
}

func randomWhere(random *rand.Rand, m *fake) (in []procmem.Range) {
	if random.IntN(2) == 0 {
		return nil
	}
	for range 1 + random.IntN(4) {
		a := m.base + procmem.Addr(random.IntN(len(m.pages)*page))
		in = append(in, procmem.Range{Start: a, End: a + min(procmem.Addr(random.IntN(8*page)), ^a)})
	}
	return in
}

var expressions = []string{"ab+a", "[ab]{3}c", "a(b|c)*d", "(ab|abc|b)c?", "[a-c]+", "c[ab]*", "a.c", "b{2,5}", "\\bab", "ab\\b", "[^a]b|cc", "d[abc]{20,}d"}

func randomPattern(random *rand.Rand, alphabet string) Pattern {
	text := make([]byte, 1+random.IntN(1<<random.IntN(5)))
	for i := range text {
		text[i] = alphabet[random.IntN(len(alphabet))]
	}
	align := 1 << random.IntN(5) >> 1
	o := ValueOptions{Align: align, BigEndian: random.IntN(3) == 0}
	switch random.IntN(8) {
	case 0:
		return must(LiteralUTF16(string(text[:1+len(text)/4]), random.IntN(2) == 0))
	case 1, 2:
		hex := ""
		for _, c := range text {
			h := []byte(fmt.Sprintf("%02x", c))
			for k := range h {
				if random.IntN(4) == 0 {
					h[k] = '?'
				}
			}
			hex += string(h)
		}
		if p, err := ParseHex(hex); err == nil {
			return p
		}
	case 3:
		t := Type(random.IntN(int(I64)))
		return must(ParseValue(t, fmt.Sprintf("%d..%d", random.IntN(50), 50+random.IntN(50)), o))
	case 4:
		v := 0
		for k := range Type(random.IntN(int(I64))).Size(8) {
			v |= int(alphabet[random.IntN(len(alphabet))]) << (8 * min(k, 3))
		}
		if p, err := ParseValue(U32, fmt.Sprint(v), o); err == nil {
			return p
		}
	case 5:
		return must(ParseRegexp(expressions[random.IntN(len(expressions))], false))
	case 6:
		if p, err := ParseValue(F32, []string{"0", "-1e-3..1e-3", "0..1e30", "-1e20..-1e-20", "nan"}[random.IntN(5)], o); err == nil {
			return p
		}
	}
	return must(Literal(text, random.IntN(3) == 0))
}

// found is a match in a form that can be compared.
type found struct {
	procmem.Range
	pattern int
}

func (f found) String() string { return fmt.Sprintf("pattern %d at %v", f.pattern, f.Range) }

// check compares the matches of s with what is wanted, and their bytes with
// memory.
func check(ctx context.Context, s *Searcher, m *fake, mem procmem.Memory, want []found) error {
	slices.SortFunc(want, func(a, b found) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.pattern, b.pattern)) })
	at := func(a procmem.Addr) byte { return m.pages[(a-m.base)/page][(a-m.base)%page] }
	i := 0
	var text []byte
	last := nowhere
	for x, err := range s.Matches(ctx, mem) {
		if err != nil {
			return err
		}
		text = say(text, &x, x.Start == last)
		last = x.End
		if i >= len(want) || (found{x.Range, x.Pattern}) != want[i] {
			return fmt.Errorf("match %d: pattern %d at %v, %x; want %v", i, x.Pattern, x.Range, x.Bytes, want[min(i, len(want)):min(i+1, len(want))])
		}
		if i++; uint64(len(x.Bytes)) != x.Size() || len(x.Before) > s.o.Context || len(x.After) > s.o.Context {
			return fmt.Errorf("match %v has %d bytes, with %d and %d around", x.Range, len(x.Bytes), len(x.Before), len(x.After))
		}
		if x.Mapping == nil || !x.Mapping.Contains(x.Start) {
			return fmt.Errorf("match %v is said to begin in %v", x.Range, x.Mapping)
		}
		whole := slices.Concat(x.Before, x.Bytes, x.After)
		for k, b := range whole {
			if a := x.Start - procmem.Addr(len(x.Before)) + procmem.Addr(k); at(a) != b {
				return fmt.Errorf("match %v: %#x at %v; want %#x", x.Range, b, a, at(a))
			}
		}
		// Context ends at what cannot be read alone.
		for _, a := range []procmem.Addr{x.Start - procmem.Addr(len(x.Before)) - 1, x.End + procmem.Addr(len(x.After))} {
			short := len(x.After) < s.o.Context
			if a < x.Start {
				short = len(x.Before) < s.o.Context
			}
			if k := int((a - m.base) / page); short && m.mapped(a) && m.pages[k] != nil && !m.absent[k] {
				return fmt.Errorf("match %v: %v is not in the context", x.Range, a)
			}
		}
	}
	if i != len(want) {
		return fmt.Errorf("%d matches; want %d, the next is %v", i, len(want), want[i])
	}
	var scanned uint64
	for _, x := range m.stretches(s.o.In) {
		scanned += uint64(len(x.b))
	}
	if s.Stats().Scanned != scanned && len(want) > 0 {
		return fmt.Errorf("%d bytes scanned; want %d", s.Stats().Scanned, scanned)
	}
	return checkText(ctx, s, mem, text)
}

// say appends a line about a match.
func say(text []byte, m *Match, goesOn bool) []byte {
	return fmt.Appendf(text, "%v %d %x %t\n", m.Range, m.Pattern, m.Bytes, goesOn)
}

// checkText compares the text that goroutines make with what the matches say one
// after the other.
func checkText(ctx context.Context, s *Searcher, mem procmem.Memory, want []byte) error {
	var got []byte
	for text, err := range s.Text(ctx, mem, say) {
		if err != nil {
			return err
		}
		got = append(got, text...)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the text is\n%swant\n%s", got, want)
	}
	return nil
}

// Whatever is looked for, where, and in blocks of whatever size, what is found is
// what looking at each address finds.
func TestLikeNaiveSearch(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 0))
		alphabet := []string{"ab", "abc\x00", "abcdABCD \n", "\x00\x01\x7f\x80\xff?x"}[random.IntN(4)]
		m := randomFake(random, alphabet)
		patterns := []Pattern{must(ParseRegexp(expressions[int(seed)%len(expressions)], false))}
		for range 1 + random.IntN(1<<random.IntN(6)) {
			patterns = append(patterns, randomPattern(random, alphabet))
		}
		in := randomWhere(random, m)
		s := must(New(patterns, Options{In: in, Context: random.IntN(3) * random.IntN(100)}))
		s.blockSize = page << random.IntN(4)
		var want []found
		for _, x := range m.stretches(in) {
			for k := range patterns {
				for _, r := range naive(&patterns[k], x) {
					want = append(want, found{r, k})
				}
			}
		}
		if err := check(t.Context(), s, m, sparseFake{m}, want); err != nil {
			for k, p := range patterns {
				t.Logf("pattern %d: %q, aligned to %d, value %x mask %x", k, p.text, p.align, p.value, p.mask)
			}
			t.Fatalf("seed %d: %v in %v: %v", seed, m.maps, in, err)
		}
	}
}

func TestStringsLikeNaive(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		m := randomFake(random, []string{"a\x00", "ab\x00\x00\x00c\x00", "abcdefgh\x00", "ab\xc3\x00\x00\x00\x00\x00"}[random.IntN(4)])
		o := StringsOptions{1 + random.IntN(1<<random.IntN(5)), Encoding("sSlbLB"[random.IntN(6)])}
		in := randomWhere(random, m)
		s := must(NewStrings(o, Options{In: in}))
		s.blockSize = page << random.IntN(4)
		var want []found
		for _, x := range m.stretches(in) {
			for _, r := range naiveStrings(o, x) {
				want = append(want, found{Range: r})
			}
		}
		if err := check(t.Context(), s, m, sparseFake{m}, want); err != nil {
			t.Fatalf("seed %d: at least %d of %c in %v: %v", seed, o.Min, o.Encoding, in, err)
		}
	}
}
