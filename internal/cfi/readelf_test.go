package cfi

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// memory is a Source that begins at an address.
type memory struct {
	base uint64
	b    []byte
}

func (m memory) ReadAt(p []byte, addr uint64) error {
	if addr < m.base || addr-m.base > uint64(len(m.b)) || uint64(len(p)) > uint64(len(m.b))-(addr-m.base) {
		return fmt.Errorf("%d bytes at %#x", len(p), addr)
	}
	copy(p, m.b[addr-m.base:])
	return nil
}

// image returns the part of a file that has call frame information, as it is loaded, and the
// bytes of an address.
func image(t testing.TB, f *elf.File) (m memory, word int) {
	t.Helper()
	word = 8
	if f.Class == elf.ELFCLASS32 {
		word = 4
	}
	hdr, eh := f.Section(".eh_frame_hdr"), f.Section(".eh_frame")
	if hdr == nil || eh == nil {
		t.Skip("it has no call frame information")
	}
	m = memory{hdr.Addr, make([]byte, eh.Addr+eh.Size-hdr.Addr)}
	for _, s := range []*elf.Section{hdr, eh} {
		b, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		copy(m.b[s.Addr-m.base:], b)
	}
	return m, word
}

var registerNames = map[int][]string{
	8: {"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "ra"},
	4: {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "ra"},
}

// The rules of each place in a library are those that readelf prints.
func TestReadelf(t *testing.T) {
	for _, path := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libstdc++.so.6", "/lib32/libc.so.6"} {
		t.Run(path, func(t *testing.T) {
			f, err := elf.Open(path)
			if err != nil {
				missing(t, err)
			}
			defer f.Close()
			out, err := exec.Command("readelf", "-wF", path).Output()
			if len(out) == 0 { // its status may be that of a debug file that is not there
				missing(t, err)
			}
			m, word := image(t, f)
			hdr, eh := f.Section(".eh_frame_hdr"), f.Section(".eh_frame")
			byHeader, err := Header(m, hdr.Addr, hdr.Size, eh.Addr+eh.Size, word, nil)
			if err != nil {
				t.Fatal(err)
			}
			bySection := Section(m, eh.Addr, eh.Addr+eh.Size, word, false, nil)
			places := eachRow(string(out), func(loc uint64, columns, want []string) {
				for name, table := range map[string]*Table{"header": byHeader, "section": bySection} {
					row, err := table.Find(loc, nil)
					if err != nil {
						t.Fatalf("by %s, %#x: %v, want %v", name, loc, err, want)
					}
					if got := row.words(columns, registerNames[word]); !slices.Equal(got, want) {
						t.Fatalf("by %s, %#x: %v is %v, want %v", name, loc, columns, got, want)
					}
				}
			})
			if places < 1000 {
				t.Errorf("readelf has %d places only", places)
			}
			t.Logf("%d places", places)
		})
	}
}

func missing(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("PROCMEM_TEST_ALL") == "1" {
		t.Fatal(err)
	}
	t.Skip(err)
}

// eachRow visits the rows of functions that readelf prints, and counts them.
func eachRow(text string, visit func(loc uint64, columns, row []string)) (n int) {
	var columns, row []string
	end := uint64(0) // of the function
	flush := func() {
		if row != nil {
			// A row may begin where the function ends.
			if loc, err := strconv.ParseUint(row[0], 16, 64); err == nil && loc < end {
				n++
				visit(loc, columns, row[1:])
			}
		}
		row = nil
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
			flush()
		case strings.Contains(line, " FDE "), strings.Contains(line, " CIE "):
			flush()
			_, last, _ := strings.Cut(words[len(words)-1], "..")
			end, _ = strconv.ParseUint(last, 16, 64) // of a CIE 0
		case words[0] == "LOC":
			columns = words[1:]
		case len(words) == len(columns)+1 && words[1] != "ZERO":
			if row != nil && row[0] != words[0] { // of two rows for one place, the second counts
				flush()
			}
			row = words
		}
	}
	flush()
	return n
}

// words shows a row as readelf does.
func (r *Row) words(columns, names []string) (out []string) {
	for _, column := range columns {
		if column == "CFA" {
			if r.CFA.Kind == ValExpr {
				out = append(out, "exp")
			} else {
				out = append(out, fmt.Sprintf("%s%+d", names[r.CFA.Reg], r.CFA.Off))
			}
			continue
		}
		num := slices.Index(names, column)
		i := slices.IndexFunc(r.Rules, func(r RegRule) bool { return int(r.Num) == num })
		if i < 0 {
			out = append(out, "u")
			continue
		}
		switch rule := r.Rules[i]; rule.Kind {
		case Undefined:
			out = append(out, "u")
		case Same:
			out = append(out, "s")
		case Offset:
			out = append(out, fmt.Sprintf("c%+d", rule.Off))
		case ValOffset:
			out = append(out, fmt.Sprintf("v%+d", rule.Off))
		case Register:
			out = append(out, names[rule.Reg])
		case Expr:
			out = append(out, "exp")
		case ValExpr:
			out = append(out, "vexp")
		}
	}
	return out
}
