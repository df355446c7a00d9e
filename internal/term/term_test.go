package term

import (
	"os"
	"strings"
	"testing"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "",
		"/lib/libc.so.6":    "/lib/libc.so.6",
		"Größe 日本 ☃":        "Größe 日本 ☃",
		`a\x2db "c"`:        `a\x2db "c"`,
		"a\x1b[31mb":        `a\x1b[31mb`,
		"a\nb\x7f":          `a\nb\x7f`,
		"a\xffb":            `a\xffb`,
		"a\u202eb":          `a\u202eb`,
		"a\u009b31m":        `a\u009b31m`, // CSI in one character
		"\ufffd":            "\ufffd",
		"é\xc3":             `é\xc3`,
		"a\u2028b\u00a0\t'": `a\u2028b\u00a0\t'`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestColorMode(t *testing.T) {
	var m ColorMode
	if m.String() != "auto" || m.Type() != "auto|always|never" {
		t.Errorf("zero value: %q of type %q", m.String(), m.Type())
	}
	for _, s := range []string{"always", "never", "auto"} {
		if err := m.Set(s); err != nil || m.String() != s {
			t.Errorf("Set(%q): %v, %q", s, err, m.String())
		}
	}
	if err := m.Set("yes"); err == nil || err.Error() != `unknown mode "yes": want auto, always, never` {
		t.Errorf("Set(yes): %v", err)
	}
}

func TestColorEnabled(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer tty.Close()
	if !IsTerminal(tty) {
		t.Skip("/dev/ptmx is no terminal here")
	}
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, c := range []struct {
		mode          ColorMode
		f             *os.File
		term, noColor string
		want          bool
	}{
		{ColorAuto, tty, "xterm", "", true},
		{ColorAuto, tty, "xterm", "1", false},
		{ColorAuto, tty, "dumb", "", false},
		{ColorAuto, tty, "", "", false},
		{ColorAuto, file, "xterm", "", false},
		{ColorAuto, nil, "xterm", "", false},
		{ColorAlways, file, "dumb", "1", true},
		{ColorNever, tty, "xterm", "", false},
	} {
		t.Setenv("TERM", c.term)
		t.Setenv("NO_COLOR", c.noColor)
		if got := c.mode.Enabled(c.f); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestUTF8Locale(t *testing.T) {
	for _, c := range []struct {
		all, ctype, lang string
		want             bool
	}{
		{"", "", "", false},
		{"", "", "de_DE.UTF-8", true},
		{"", "C.utf8", "C", true},
		{"C", "C.utf8", "C.utf8", false},
	} {
		t.Setenv("LC_ALL", c.all)
		t.Setenv("LC_CTYPE", c.ctype)
		t.Setenv("LANG", c.lang)
		if got := utf8Locale(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// golden compares what was printed with the want that a test holds, which
// begins with a newline for the sake of reading.
func golden(t *testing.T, what, got, want string) {
	t.Helper()
	if want = strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}
