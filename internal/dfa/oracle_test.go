package dfa

import (
	"bytes"
	"math/rand/v2"
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"
	"unicode/utf8"
)

// oracle tries all paths in order, as the definition says. It is right where
// runes are bytes.
type oracle struct {
	prog  *syntax.Prog
	limit int
	b     []byte
	from  int // where the match begins
	seen  map[[2]int]bool
}

func newOracle(t testing.TB, expr string, fold bool, limit int) *oracle {
	t.Helper()
	re, err := parse(expr, fold)
	if err != nil {
		t.Fatal(err)
	}
	p, err := syntax.Compile(re.Simplify())
	if err != nil {
		t.Fatal(err)
	}
	return &oracle{prog: p, limit: limit}
}

func (o *oracle) find(b []byte, from int) (int, int, bool) {
	o.b = b
	for o.from = from; o.from < len(b); o.from++ {
		o.seen = map[[2]int]bool{}
		if end := o.try(o.prog.Start, o.from); end >= 0 {
			return o.from, end, true
		}
	}
	return 0, 0, false
}

func (o *oracle) around(at int) syntax.EmptyOp {
	before, after := rune(-1), rune(-1)
	if at > 0 {
		before = rune(o.b[at-1])
	}
	if at < len(o.b) {
		after = rune(o.b[at])
	}
	return syntax.EmptyOpContext(before, after)
}

func (o *oracle) try(pc, at int) int {
	if at-o.from > o.limit || o.seen[[2]int{pc, at}] {
		return -1
	}
	o.seen[[2]int{pc, at}] = true
	i := &o.prog.Inst[pc]
	switch i.Op {
	case syntax.InstMatch:
		if at > o.from {
			return at
		}
		return -1
	case syntax.InstAlt, syntax.InstAltMatch:
		if end := o.try(int(i.Out), at); end >= 0 {
			return end
		}
		return o.try(int(i.Arg), at)
	case syntax.InstCapture, syntax.InstNop:
		return o.try(int(i.Out), at)
	case syntax.InstEmptyWidth:
		if syntax.EmptyOp(i.Arg)&^o.around(at) == 0 {
			return o.try(int(i.Out), at)
		}
		return -1
	case syntax.InstFail:
		return -1
	}
	if at < len(o.b) && i.MatchRune(rune(o.b[at])) {
		return o.try(int(i.Out), at+1)
	}
	return -1
}

// all returns the matches one after the other, as starts and ends.
func all(find func([]byte, int) (int, int, bool), b []byte) (out [][2]int) {
	for from := 0; ; {
		s, e, ok := find(b, from)
		if !ok {
			return out
		}
		out = append(out, [2]int{s, e})
		if e <= from && len(out) > 1 || e <= s {
			return append(out, [2]int{-1, -1}) // which no oracle says
		}
		from = e
	}
}

// check compares with the oracle, and the oracle with package regexp.
func check(t *testing.T, expr string, fold bool, limit, cache int, b []byte) {
	t.Helper()
	re, err := Compile(expr, Options{Fold: fold})
	if err != nil {
		return
	}
	re.limit, re.cache = limit, cache
	o := newOracle(t, expr, fold, limit)
	want := all(o.find, b)
	m := re.Clone()
	m.search.memo.every, m.anchored.memo.every = 1+len(b)%4, 1+len(b)%3
	if got := all(m.Find, b); !equal(got, want) {
		t.Fatalf("%q, fold %v, limit %d, cache %d on %q:\n got %v\nwant %v", expr, fold, limit, cache, b, got, want)
	}
	m = re.Clone()
	m.search.memo.every, m.anchored.memo.every = 1+len(b)%3, 1+len(b)%4
	if got := all(m.Next, b); !equal(got, want) {
		t.Fatalf("%q, fold %v, limit %d, cache %d on %q, with Next:\n got %v\nwant %v", expr, fold, limit, cache, b, got, want)
	}
	for k := range 3 { // in any order
		from := (7*k + 5*len(expr)) % (len(b) + 1)
		s, e, ok := m.Next(b, from)
		if s1, e1, ok1 := o.find(b, from); s != s1 || e != e1 || ok != ok1 {
			t.Fatalf("%q, fold %v, limit %d, cache %d on %q from %d: %d to %d, want %d to %d", expr, fold, limit, cache, b, from, s, e, s1, e1)
		}
	}
	if re.tree.minLen == 0 || limit < len(b) {
		return
	}
	flags := "(?m)"
	if fold {
		flags = "(?mi)"
	}
	if got := regexp.MustCompile(flags+expr).FindAllIndex(b, -1); !equal(pairsOf(got), want) {
		t.Fatalf("%q on %q: package regexp finds %v, the oracle %v", expr, b, got, want)
	}
}

func pairsOf(x [][]int) (out [][2]int) {
	for _, m := range x {
		out = append(out, [2]int{m[0], m[1]})
	}
	return out
}

func equal(a, b [][2]int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// randomExpr makes an expression of letters that random texts have.
func randomExpr(r *rand.Rand, depth int) string {
	atoms := []string{"a", "b", "c", "ab", "abc", "@", ".", "[ab]", "[^a]", "[a-c]", `\w`, `\W`, `\s`, `\S`, "(?s:.)",
		"^", "$", `\b`, `\B`, `\A`, `\z`, "(?i:b)", "(?i:[a-b])", "@b", "xbc", `\n`, "(?:)", `[^\n]`, `[\x01-b]`, "cab@"}
	if depth == 0 {
		return atoms[r.IntN(len(atoms))]
	}
	sub := func() string { return randomExpr(r, depth-1-r.IntN(depth)) }
	switch r.IntN(8) {
	case 0, 1, 2:
		return sub() + sub()
	case 3:
		return sub() + sub() + sub()
	case 4:
		return "(?:" + sub() + "|" + sub() + ")"
	case 5:
		return "(" + sub() + "|" + sub() + "|" + sub() + ")"
	}
	suffix := []string{"*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{2,}", "{0,2}?", "{2,}?", "{3}"}
	return "(?:" + sub() + ")" + suffix[r.IntN(len(suffix))]
}

func randomText(r *rand.Rand) []byte {
	letters := []string{"abc", "ab", "abcB@x \n", "ab@\n", "aaaaaaab", "abc\xff\x80", "cab@x."}[r.IntN(7)]
	b := make([]byte, r.IntN(60))
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return b
}

func TestAgreesWithOracle(t *testing.T) {
	n := 15_000
	if testing.Short() {
		n = 3_000
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		expr := randomExpr(r, r.IntN(5))
		if _, err := syntax.Parse(expr, syntax.Perl); err != nil {
			continue
		}
		cache := cacheBytes
		if r.IntN(4) == 0 {
			cache = 1
		}
		limit := Limit
		if r.IntN(2) == 0 {
			limit = 1 + r.IntN(20)
		}
		check(t, expr, r.IntN(4) == 0, limit, cache, randomText(r))
	}
}

// FuzzFind compares with the oracle for expressions and texts of ASCII.
func FuzzFind(f *testing.F) {
	for _, expr := range []string{`[a-z]+@example\.com`, `[0-9a-f]{8}`, `\b\d{1,3}(\.\d{1,3}){3}\b`, `error|warning|fatal`,
		`(a*)*`, `(a|aa)*b`, `(|a)+?$`, `^x.*?y`, `[^ab]{2,}?`} {
		f.Add(expr, []byte("me@example.com 0123abcd 127.0.0.1\nxyyab error"), false, uint8(0))
	}
	f.Fuzz(func(t *testing.T, expr string, b []byte, fold bool, limit uint8) {
		if len(expr) > 60 || len(b) > 200 || !ascii([]byte(expr)) || !ascii(b) || strings.Contains(expr, `\`) && beyond.MatchString(expr) {
			t.Skip()
		}
		if _, err := syntax.Parse(expr, syntax.Perl); err != nil {
			Compile(expr, Options{Fold: fold}) // whatever it says
			t.Skip()
		}
		if limit == 0 {
			check(t, expr, fold, Limit, 1<<(len(b)%20), b)
		} else {
			check(t, expr, fold, int(limit), 1<<(len(b)%20), b)
		}
	})
}

// beyond finds what can mean bytes or characters beyond ASCII, and \C.
var beyond = regexp.MustCompile(`\\x|\\[pPC]|\\[0-7]`)

func ascii(b []byte) bool {
	return bytes.IndexFunc(b, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}
