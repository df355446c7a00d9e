package term

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestSprintf(t *testing.T) {
	name := "a\nb\x1b[1m\u202e"
	got := Sprintf("%s: %v, %q\n%5d|%-*s|%v|%x|%v", name, errors.New(name), "q\n", 7, 4, "\n", time.Second, 255, nil)
	want := "a\\nb\\x1b[1m\\u202e: a\\nb\\x1b[1m\\u202e, \"q\\n\"\n    7|\\n   |1s|ff|<nil>"
	if got != want {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// What is escaped means the same, and prints nothing that is not to be seen.
func FuzzEscapeJSON(f *testing.F) {
	for _, s := range []string{"plain", "\u202e\x7f\u0085", "\xff\xc2", "\U000e0001 \U0001f600", "\u2028\n\t\"\\", "ä€"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		plain, err := json.Marshal(map[string]string{s: s})
		if err != nil {
			t.Fatal(err)
		}
		var w bytes.Buffer
		if n, err := JSON(&w).Write(plain); n != len(plain) || err != nil {
			t.Fatal(n, err)
		}
		var a, b map[string]string
		if err := errors.Join(json.Unmarshal(plain, &a), json.Unmarshal(w.Bytes(), &b)); err != nil {
			t.Fatal(err)
		}
		for k, v := range a {
			if b[k] != v {
				t.Errorf("%q is not %q", b[k], v)
			}
		}
		if !utf8.Valid(w.Bytes()) || strings.IndexFunc(w.String(), func(r rune) bool { return !unicode.IsPrint(r) || r == 0x7f }) >= 0 {
			t.Errorf("%q", w.String())
		}
	})
}
