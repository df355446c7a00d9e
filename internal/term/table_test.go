package term

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var b bytes.Buffer
	tab := NewTable(&b, false, Column{Title: "START"}, Column{Title: "RSS", Right: true}, Column{Title: "PERM", Width: 6}, Column{Title: "PATH"})
	for _, row := range [][]string{
		{"7f12a0000000", "1.0 GiB", "rw-p", "/lib/größe.so"},
		{"1000", "4.0 KiB", "r--p", "/lib/\x1b[2Jx", "dropped"},
		{"2000"},
	} {
		if err := tab.Row(row...); err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() > 0 {
		t.Error("rows were printed before their widths were known")
	}
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "table", b.String(), `
START             RSS  PERM    PATH
7f12a0000000  1.0 GiB  rw-p    /lib/größe.so
1000          4.0 KiB  r--p    /lib/\x1b[2Jx
2000
`)
}

func TestTableEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := NewTable(&b, true, Column{Title: "A"}, Column{Title: "B", Right: true, Width: 4}).Close(); err != nil {
		t.Fatal(err)
	}
	golden(t, "table", b.String(), "\x1b[1mA     B\x1b[0m\n")
}

// Rows come out while others are still to be added, in no more memory.
func TestTableStreams(t *testing.T) {
	var b bytes.Buffer
	tab := NewTable(&b, false, Column{Title: "N", Right: true}, Column{Title: "TEXT"})
	const n = 70000
	for i := range n {
		if err := tab.Row(fmt.Sprint(i), "text"); err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() == 0 || tab.held != nil {
		t.Errorf("%d bytes printed, %d rows held", b.Len(), len(tab.held))
	}
	if err := tab.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) != n+2 || lines[1] != "  0  text" || lines[1001] != "1000  text" || lines[n] != "69999  text" {
		t.Errorf("%d lines: %q %q %q", len(lines), lines[1], lines[1001], lines[n])
	}
}

var errFull = errors.New("full")

// fullWriter takes n bytes.
type fullWriter struct{ n int }

func (w *fullWriter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	u32, _ := ParseFormat("u32")
	str, _ := ParseFormat("str")
	for name, f := range map[string]func(w io.Writer) (write, closing error){
		"Hexdump": func(w io.Writer) (error, error) {
			h := NewHexdump(w, false)
			return h.Write(0, data), h.Close()
		},
		"Values": func(w io.Writer) (error, error) {
			v := NewValues(w, u32, 8, false, nil)
			return v.Write(0, data), v.Close()
		},
		"str": func(w io.Writer) (error, error) {
			v := NewValues(w, str, 8, false, nil)
			return v.Write(0, data), v.Close()
		},
		"Table": func(w io.Writer) (err error, _ error) {
			tab := NewTable(w, false, Column{})
			for i := 0; i < 1e6 && err == nil; i++ {
				err = tab.Row("some text")
			}
			return err, tab.Close()
		},
	} {
		if werr, cerr := f(&fullWriter{100000}); !errors.Is(werr, errFull) || !errors.Is(cerr, errFull) {
			t.Errorf("%s: Write %v, Close %v", name, werr, cerr)
		}
	}
}
