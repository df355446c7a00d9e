package dfa

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func mustCompile(t testing.TB, expr string) *Regexp {
	t.Helper()
	re, err := Compile(expr, Options{})
	if err != nil {
		t.Fatalf("Compile(%q): %v", expr, err)
	}
	return re
}

func matches(m *Matcher, b []byte) (out []string) {
	for _, x := range all(m.Next, b) {
		out = append(out, string(b[x[0]:x[1]]))
	}
	return out
}

func TestFind(t *testing.T) {
	for _, x := range []struct {
		expr string
		text string
		want []string
	}{
		{`abc`, "xabcabc", []string{"abc", "abc"}},
		{`[a-z]+@example\.com`, "me@example.com, @example.com you@example.comme@example.org", []string{"me@example.com", "you@example.com"}},
		{`a|ab`, "ab", []string{"a"}},
		{`ab|a`, "ab", []string{"ab"}},
		{`a*`, "baac", []string{"aa"}},
		{`a*?`, "aa", []string{"a", "a"}},
		{`|a`, "aa", []string{"a", "a"}},
		{`abcd|c`, "abcd abce", []string{"abcd", "c"}},

		{`[a-z]*foo`, "foofoo", []string{"foofoo"}},
		{`[a-z]*foo`, "foo", []string{"foo"}},

		// Bytes and characters.
		{`\xff`, "ÿ\xff", []string{"\xff"}},
		{`ÿ`, "\xffÿ", []string{"ÿ"}},
		{`\x{ff}`, "\xffÿ", []string{"ÿ"}},
		{`\xde\xad\xbe\xef`, "..\xde\xad\xbe\xef", []string{"\xde\xad\xbe\xef"}},
		{`[\xfe\xff]`, "þ\xfe\xfd\xff", []string{"\xfe", "\xff"}},
		{`[\x80-\xff]+`, "aé\xff\x00", []string{"é\xff"}},
		{`[\x00-\xff]+`, "\x00aé\xff\n", []string{"\x00aé\xff\n"}},
		{`[b-\x81]+`, "abc\x7f\x80\x81\x82", []string{"bc\x7f\x80\x81"}},
		{`[-\xff]+`, "-.\xff\x80", []string{"-", "\xff"}},
		{`[a-b-\xff]+`, "ab-\xff\x80c", []string{"ab-\xff"}},
		{`[\d-\xff]+`, "3-\xff\x80", []string{"3-\xff"}},
		{`[\pN-\xff]+`, "3-\xff\x80", []string{"3-\xff"}},
		{`[\p{Lu}\xff]+`, "aÄB\xff\x80", []string{"ÄB\xff"}},
		{`[[:digit:]\xff]+`, "3\xff\x80", []string{"3\xff"}},
		{`[]\xff]+`, "]\xff[", []string{"]\xff"}},
		{`[^]\xff]+`, "]\xff[\x80", []string{"[\x80"}},
		{`[^\x00-\x7e\x80-\xfe]`, "a\x7f\x80\xff", []string{"\x7f", "\xff"}},
		{`\Q[\xff\E]`, `[\xff]`, []string{`[\xff]`}},
		{`\\xff`, `\xff`, []string{`\xff`}},
		{`(?s)a.c`, "a\nc a\xffc aéc", []string{"a\nc", "a\xffc"}},
		{`a.c`, "a\nc a\xffc", []string{"a\xffc"}},
		{`a\Cc`, "a\nc a\xffc", []string{"a\nc", "a\xffc"}},
		{`"[^"]*"`, "\"a\xff\xfe\xe9\" \"é\"", []string{"\"a\xff\xfe\xe9\"", "\"é\""}},
		{`[^é]`, "é\xff", nil},
		{`[^é]+`, "éèaé", []string{"èa"}},
		{`[é-ü]+`, "aéüz\xe9", []string{"éü"}},
		{`\pL+`, "1aé漢𝒜2", []string{"aé漢𝒜"}},
		{`\W+`, "a\xff!b", []string{"\xff!"}},
		{`漢+`, "漢漢\xe6", []string{"漢漢"}},

		// Cases.
		{`(?i)kÉ`, "Ké kÉ \u212aé", []string{"Ké", "kÉ"}},
		{`(?i)s`, "ſS", []string{"S"}},
		{`(?i)[r-s]`, "ſRS", []string{"R", "S"}},
		{`(?i)[k-l]`, "\u212aKL", []string{"K", "L"}},
		{`(?i)[^k]+`, "aK\xff", []string{"a", "\xff"}},
		{`(?i)\W+`, "a\xff", []string{"\xff"}},
		{`(?i)\xe9`, "\xe9\xc9", []string{"\xe9"}},

		// What is around.
		{`^a$`, "a\naa\na", []string{"a", "a"}},
		{`(?-m)^a`, "a\na", []string{"a"}},
		{`\Aa`, "aa", []string{"a"}},
		{`a\z`, "aa\na", []string{"a"}},
		{`\bfoo\b`, "foo,food foo", []string{"foo", "foo"}},
		{`\Bo`, "o foo", []string{"o", "o"}},
		{`\b\d{1,3}(\.\d{1,3}){3}\b`, "127.0.0.1 1.2.3.4567 x1.2.3.4 255.255.255.255", []string{"127.0.0.1", "255.255.255.255"}},
		{`(?m)a(?:$)\n^b`, "a\nb", []string{"a\nb"}},
		{`a$|a`, "aa", []string{"a", "a"}},

		// What should not take forever.
		{`(a*)*`, "baab", []string{"aa"}},
		{`(a|aa)*b`, strings.Repeat("a", 5000) + "b", []string{strings.Repeat("a", 5000) + "b"}},
		{`(a|aa)*b`, strings.Repeat("a", 5000), nil},
		{`(?:(?:a?){30}){30}b`, strings.Repeat("a", 900) + "c", nil},
		{`x{1000}`, strings.Repeat("x", 2500), []string{strings.Repeat("x", 1000), strings.Repeat("x", 1000)}},
		{`[xy]{1,1000}z`, strings.Repeat("xy", 600) + "z", []string{strings.Repeat("xy", 500) + "z"}},
		{strings.Repeat("(", 400) + "a" + strings.Repeat(")*", 400), "baa", []string{"aa"}},
	} {
		t.Run(x.expr[:min(len(x.expr), 40)], func(t *testing.T) {
			if got := matches(mustCompile(t, x.expr).Clone(), []byte(x.text)); !slices.Equal(got, x.want) {
				t.Errorf("%q in %.100q: %.200q, want %.200q", x.expr, x.text, got, x.want)
			}
		})
	}
}

func TestFold(t *testing.T) {
	re, err := Compile(`password`, Options{Fold: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := matches(re.Clone(), []byte("PassWORD paßword")); !slices.Equal(got, []string{"PassWORD"}) {
		t.Error(got)
	}
}

func TestCompileErrors(t *testing.T) {
	for _, x := range []struct{ expr, want string }{
		{`a(b`, "missing closing )"},
		{`[a`, "missing closing ]"},
		{`[`, "missing closing ]"},
		{`[b-a]`, "invalid character class range"},
		{`[\xff-a]`, "invalid character class range"},
		{`[é-\xff]`, "invalid character class range"},
		{`a\`, "trailing backslash"},
		{`\x{`, "invalid escape"},
		{`\p{`, "invalid character class range"},
		{`\p{Nosuch}`, "invalid character class range"},
		{`\x{d8ff}`, "surrogate"},
		{"a\xff", "invalid UTF-8"},
		{`\1`, "invalid escape"},
		{`(?=a)`, "invalid or unsupported Perl syntax"},
		{`x{1000}{1000}`, "invalid nested repetition"},
		{`(x{1000}){1000}`, "invalid repeat count"},
		{`(\pL{10,100}.){10}` + strings.Repeat(`\pL{1000}`, 3), "too large"},
		{strings.Repeat("x{1000}", 66), "longer than"},
		{strings.Repeat("(", 2000) + strings.Repeat(")", 2000), "nests too deep"},
		{``, "empty string"},
		{`^$|\b`, "empty string"},
		{`[^\x00-\x{10ffff}]a`, "nothing"},
	} {
		_, err := Compile(x.expr, Options{})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("Compile(%.40q): %v, want %q", x.expr, err, x.want)
		}
	}
}

func TestLengths(t *testing.T) {
	for _, x := range []struct {
		expr     string
		min, max int
		bounded  bool
	}{
		{`abc`, 3, 3, true},
		{`a?`, 1, 1, true},
		{`a{2,5}|bc`, 2, 5, true},
		{`a+`, 1, Limit, false},
		{`[é漢]`, 2, 3, true},
	} {
		re := mustCompile(t, x.expr)
		n, bounded := re.MaxLen()
		if re.MinLen() != x.min || n != x.max || bounded != x.bounded {
			t.Errorf("%.40q: %d to %d, %v", x.expr, re.MinLen(), n, bounded)
		}
	}
}

// long makes text in which much looks like a match.
func long(r *rand.Rand, size int) []byte {
	pieces := []string{"@example.com", "me@example.com", "@example.co", "deadbeef", "0123456789abcdef", "@@@@", "error", "warnin", "fatal",
		"1.2.3.4", "255.255.", "\n", " ", "password", "PassWord : x", "-----BEGIN ", "-----BEGIN RSA KEY-----", "aaaaaaaaaaaa", "\x00\x00\x00\x00", "err", "foobar"}
	var b []byte
	for len(b) < size {
		p := pieces[r.IntN(len(pieces))]
		for range 1 + r.IntN(8)*r.IntN(20) {
			b = append(b, p...)
			if r.IntN(3) == 0 {
				b = append(b, byte(r.IntN(128)))
			}
		}
	}
	return b
}

// TestLong compares with package regexp on what makes all that skips come and
// go.
func TestLong(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, expr := range []string{
		`[a-z]+@example\.com`, `[a-z@]+@example\.com`, `[0-9a-f]{32}`, `(?i)password\s*[:=]\s*\S+`, `\b\d{1,3}(\.\d{1,3}){3}\b`,
		`error|warning|fatal`, `-----BEGIN [A-Z ]+-----`, `.{0,20}foobar`, `[^\n]{3}@@`, `(err)+or`, `@`, `\x00+`, `[a-c]`, `a{12}.`,
		`[a-z]+@example\.com(?:.*\n)*?fatal`, `^.*fatal$`, `(?i:ERROR)|a+@`, `[[:punct:]]BEGIN`, `a.*fatal`, `[a-z]*word`,
	} {
		std := regexp.MustCompile("(?m)" + expr)
		for range 2 {
			b := long(r, 100<<10)
			m := mustCompile(t, expr).Clone()
			m.re.limit = len(b)
			got := all(m.Find, b)
			if want := pairsOf(std.FindAllIndex(b, -1)); !equal(got, want) {
				t.Errorf("%q: %d matches, want %d; first difference: %v", expr, len(got), len(want), difference(got, want))
			}
		}
	}
}

func difference(a, b [][2]int) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprint(a[i], b[i])
		}
	}
	return "one ends early"
}

// TestChoice holds what is looked for, on which the speed rests.
func TestChoice(t *testing.T) {
	for _, x := range []struct{ expr, want string }{
		{`[a-z]+@example\.com`, `inner "@example.com"`},
		{`[a-z@]+@example\.com`, `inner ".com"`},
		{`\w+foo@bar`, `inner "@bar"`},
		{`-----BEGIN [A-Z ]+-----`, `literal "-----BEGIN "`},
		{`.{0,20}foobar`, `literal "foobar"`},
		{`(foo){3}x`, `literal "foofoofoox"`},
		{`(?i)password\s*[:=]`, `window 9`},
		{`[0-9a-f]{32}`, `window 32`},
		{`error|warning|fatal`, `window 5`},
		{`\b\d{1,3}(\.\d{1,3}){3}\b`, `window 7`},
		{`[^x]*y?`, `none`},
		{`(?s).*needle.*`, `gate "needle"`},
		{`[a-z]{2,}foo`, `gate "foo"`},
	} {
		re := mustCompile(t, x.expr)
		got := "none"
		switch {
		case re.inner != nil:
			got = fmt.Sprintf("inner %q", re.inner.text)
		case re.literal != nil:
			got = fmt.Sprintf("literal %q", re.literal.text)
		case re.gate != nil:
			got = fmt.Sprintf("gate %q", re.gate.text)
		case re.window != nil:
			got = fmt.Sprintf("window %d", re.window.size)
		}
		if got != x.want {
			t.Errorf("%q: %s, want %s", x.expr, got, x.want)
		}
	}
}

// TestLimit has matches that are too long, which must be the same wherever
// blocks are cut.
func TestLimit(t *testing.T) {
	a := strings.Repeat("a", Limit)
	for _, x := range []struct {
		name, expr, text string
		want             [][2]int
	}{
		{"greedy", `a+`, a + a + "a", [][2]int{{0, Limit}, {Limit, 2 * Limit}, {2 * Limit, 2*Limit + 1}}},
		{"suffix", `a*b`, a + "aab", [][2]int{{3, Limit + 3}}},
		{"inner", `[a-z]+@example\.com`, a + "@example.com", [][2]int{{12, Limit + 12}}},
		{"behind", `[a-z]+@example\.com[a-z]+;`, "aa@example.com" + a[14:] + ";", [][2]int{{1, Limit + 1}}},
		{"none", `(?s)BEGIN.*END`, "BEGIN" + a + "END", nil},
		{"next", `(?s)BEGIN.*END`, "BEGIN" + a + "BEGIN1ENDEND" + a + "END", [][2]int{{Limit + 5, Limit + 17}}},
		{"exact", `(?s)<.*>`, "<" + a[2:] + ">", [][2]int{{0, Limit}}},
		{"more", `(?s)<.*>`, "<" + a[1:] + ">", nil},
		{"edge", `a{10}\b`, a, [][2]int{{Limit - 10, Limit}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			m := mustCompile(t, x.expr).Clone()
			if got := all(m.Find, []byte(x.text)); !equal(got, x.want) {
				t.Errorf("%v, want %v", got, x.want)
			}
		})
	}
}

// TestBlocks finds the same in blocks, with what the package asks for around
// them.
func TestBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 4_000 {
		expr, b := randomExpr(r, 1+r.IntN(4)), randomText(r)
		re, err := Compile(expr, Options{})
		if err != nil {
			continue
		}
		re.limit = 1 + r.IntN(12)
		want := all(re.Clone().Find, b)
		var got [][2]int
		m := re.Clone()
		from := 0
		for begin := 0; begin < len(b); {
			end := min(len(b), begin+1+r.IntN(20))
			first := max(0, begin-1)
			part := b[first:min(len(b), end+re.limit)]
			for from = max(from, begin); from < end; {
				s, e, ok := m.Find(part, from-first)
				if !ok || s+first >= end {
					break
				}
				got = append(got, [2]int{s + first, e + first})
				from = e + first
			}
			begin = end
		}
		if !equal(got, want) {
			t.Fatalf("%q, limit %d, on %q: %v in blocks, %v at once", expr, re.limit, b, got, want)
		}
	}
}

// TestLinear counts the bytes that are read where matches that are too long, or
// that end much earlier than what else is tried, follow each other closely.
func TestLinear(t *testing.T) {
	for _, x := range []struct{ name, expr, unit, end string }{
		{"no end", `(?s)a.*b`, "a", ""},
		{"far end", `(?s)a.*b|c`, "a", "c" + strings.Repeat(".", Limit-100) + "b"},
		{"optional", `(?s)BEGIN(.*END)?`, "BEGIN", ""},
		{"periodic", `(?s)a(...)*b|a`, "a", ""},
		{"literals", `[a-z]+@example\.com;`, "@example.com", ""},
		{"addresses", `[a-z]+@example\.com;`, "me@example.com", ""},
		{"suffixes", `(?s)[a-z]+@example\.com.*Z`, "me@example.com", ""},
		{"letters", `[a-z]+@example\.com`, "a", ""},
		{"window", `x[0-9a-f]{31}`, "0123456789", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := append(bytes.Repeat([]byte(x.unit), 3*Limit/len(x.unit)), x.end...)
			m := mustCompile(t, x.expr).Clone()
			all(m.Next, b)
			read := 0
			for _, d := range []*lazy{m.search, m.anchored, m.back, m.before} {
				if d == nil {
					continue
				}
				if read += d.bytes; d.flushes > 1 {
					t.Error("states were forgotten, and counts of bytes with them")
				}
			}
			if t.Logf("%.1f", float64(read)/float64(len(b))); read > 200*len(b) {
				t.Errorf("%d bytes were read for %d", read, len(b))
			}
		})
	}
}

// TestThrash has more states than can be kept.
func TestThrash(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	b := make([]byte, 100_000)
	for i := range b {
		b[i] = "ab"[r.IntN(2)]
	}
	const expr = `a[ab]{12}b[ab]{12}c|a[ab]{15}a[ab]{3}bbbbaaba`
	re := mustCompile(t, expr)
	re.cache = 64 << 10
	m := re.Clone()
	got := all(m.Find, b)
	if want := pairsOf(regexp.MustCompile(expr).FindAllIndex(b, -1)); !equal(got, want) || len(want) == 0 {
		t.Errorf("%v, want %v", got, want)
	}
	if m.search.flushes < 2 {
		t.Error("no state was forgotten")
	}
	if m.search.size > 2*re.cache {
		t.Errorf("states take %d bytes", m.search.size)
	}
}

func TestAllocates(t *testing.T) {
	b := mixed()[:1<<20]
	for _, expr := range []string{`[a-z]+@example\.com`, `[0-9a-f]{8}`, `\bclosed\b`, `(?i)no\w+`, `[a-z]+`} {
		m := mustCompile(t, expr).Clone()
		if n := testing.AllocsPerRun(2, func() { all1(m, b) }); n > 0 {
			t.Errorf("%q: %v allocations", expr, n)
		}
	}
}

func all1(m *Matcher, b []byte) {
	for from := 0; ; {
		_, end, ok := m.Find(b, from)
		if !ok {
			return
		}
		from = end
	}
}
