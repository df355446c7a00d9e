package dfa

import "testing"

// TestNextAnywhere takes one text in any order, with places to remember at each
// offset.
func TestNextAnywhere(t *testing.T) {
	re := mustCompile(t, `(?:.){2,}[a-c]^|[a-c](?:c|\W)|b`)
	b := []byte("\x80\xffa\xffcaccaacb")
	m, fresh := re.Clone(), re.Clone()
	m.search.memo.every = 1
	for k := range 5 * len(b) {
		from := k * 7 % len(b)
		if k < len(b) {
			from = k
		}
		s, e, ok := m.Next(b, from)
		if s1, e1, ok1 := fresh.Find(b, from); s != s1 || e != e1 || ok != ok1 {
			t.Fatalf("from %d: %d to %d, want %d to %d", from, s, e, s1, e1)
		}
	}
}
