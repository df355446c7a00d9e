package procmem

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestAddr(t *testing.T) {
	for text, want := range map[string]Addr{"0x10": 0x10, "16": 16, "0XfF": 255, "0xffffffffffffffff": 1<<64 - 1} {
		if a, err := ParseAddr(text); err != nil || a != want {
			t.Errorf("ParseAddr(%q) = %v, %v", text, a, err)
		}
	}
	for _, text := range []string{"", "0x", "-1", "0x1g", "0x10000000000000000", "1_0"} {
		if a, err := ParseAddr(text); err == nil {
			t.Errorf("ParseAddr(%q) = %v", text, a)
		}
	}
	if a, err := Addr(1 << 63).Add(1 << 63); !errors.Is(err, ErrOverflow) {
		t.Errorf("2^63 + 2^63 = %v, %v", a, err)
	}
	b, err := json.Marshal(Range{0x1000, 0x2000})
	if string(b) != `{"start":"0x1000","end":"0x2000"}` || err != nil {
		t.Errorf("as JSON: %s, %v", b, err)
	}
	var r Range
	if err := json.Unmarshal(b, &r); err != nil || r != (Range{0x1000, 0x2000}) {
		t.Errorf("from JSON: %v, %v", r, err)
	}
}

func TestRange(t *testing.T) {
	r := Range{0x1000, 0x3000}
	for o, want := range map[Range]Range{
		{0x2000, 0x4000}: {0x2000, 0x3000},
		{0, 0x1000}:      {0x1000, 0x1000},
		{0x5000, 0x6000}: {0x5000, 0x5000},
		{0, 1<<64 - 1}:   r,
	} {
		if got := r.Intersect(o); got != want {
			t.Errorf("%v with %v: %v, want %v", r, o, got, want)
		}
	}
	if !r.Contains(0x1000) || r.Contains(0x3000) || (Range{2, 1}).Size() != 0 {
		t.Error("a range is half-open")
	}
}

func TestMappingLines(t *testing.T) {
	// Lines of a 64-bit kernel: the path begins in column 73, spaces of its
	// own behind that.
	for line, path := range map[string]string{
		"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 ":                                               "",
		"00400000-00401000 r-xp 00001000 08:02 173521                             /usr/bin/dbus":         "/usr/bin/dbus",
		"00400000-00401000 r-xp 00001000 08:02 173521                               two":                 "  two",
		`00400000-00401000 r-xp 00001000 08:02 173521                             /tmp/a\012b (deleted)`: "/tmp/a\nb (deleted)",
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]":            "[vsyscall]",
		"7f0000000000-7f0000001000 rw-s 123456789a000 103:02 12345678901234567890 /long":                 "/long",
	} {
		m, err := ParseMapping([]byte(line))
		if err != nil || m.Path != path {
			t.Errorf("%q: path %q, %v", line, m.Path, err)
			continue
		}
		back, err := ParseMapping([]byte(m.String()))
		if len(path) > 0 && path[0] != ' ' && (err != nil || back != m) {
			t.Errorf("%q comes back as %+v, %v", m.String(), back, err)
		}
	}
	for _, line := range []string{"", "1-", "2-1 r--p 0 0:0 0", "1-1 r--p 0 0:0 0", "1-2 r--- 0 0:0 0", "1-2 r--p x 0:0 0",
		"1-2 r--p 0 0 0", "1-2 r--p 0 0:100000000 0", "1-2 r--p 0 0:0", "1-10000000000000000 r--p 0 0:0 0"} {
		if m, err := ParseMapping([]byte(line)); err == nil {
			t.Errorf("%q is %+v", line, m)
		}
	}
}

// A mapping and a fault print as more than their range, also where they are no pointers.
func TestPrint(t *testing.T) {
	r := Range{0x1000, 0x2000}
	ms := []Mapping{{Range: r, Perm: PermRead, Path: "[heap]"}}
	if got, want := fmt.Sprint(ms[0], ms), "1000-2000 r--p 00000000 00:00 0 [heap]"; got != want+" ["+want+"]" {
		t.Errorf("a mapping is %q", got)
	}
	if got := fmt.Sprint(Fault{r, ErrDevice}); got != "0x1000-0x2000: device memory is never read" {
		t.Errorf("a fault is %q", got)
	}
}

func TestPermAndFlags(t *testing.T) {
	for i := range Perm(16) {
		if p, err := ParsePerm(i.String()); p != i || err != nil {
			t.Errorf("%v comes back as %v, %v", i, p, err)
		}
	}
	for _, s := range []string{"", "rwx", "rwxpp", "wrxp", "rwx-", "p--p", "r--P"} {
		if p, err := ParsePerm(s); err == nil {
			t.Errorf("%q is %v", s, p)
		}
	}
	const flags = "rd wr mr mw me dd um"
	if f := ParseVMFlags(" " + flags + " zz \xff\xff "); f.String() != flags || f&VMDontDump == 0 || f&VMUffdMiss == 0 || f&VMIO != 0 {
		t.Errorf("flags %q", f)
	}
}

func TestFindMapping(t *testing.T) {
	ms := []Mapping{{Range: Range{0x1000, 0x2000}}, {Range: Range{0x3000, 0x4000}}}
	for a, want := range map[Addr]int{0: 0, 0x1000: 0, 0x1fff: 0, 0x2000: 1, 0x3fff: 1, 0x4000: 2} {
		if i := FindMapping(ms, a); i != want {
			t.Errorf("%v: %d, want %d", a, i, want)
		}
	}
}

// holes is a Memory that faults wherever a page number is in it, with that
// reason.
type holes map[Addr]error

func (h holes) Mappings() ([]Mapping, error) { return nil, nil }

func (h holes) ReadAt(p []byte, addr Addr) (int, error) {
	for i := range p {
		a := addr + Addr(i)
		if err := h[a/PageSize]; err != nil {
			return i, &FaultError{Addr: a, Err: err}
		}
		p[i] = byte(a / PageSize)
	}
	return len(p), nil
}

func TestReadFull(t *testing.T) {
	h := holes{2: ErrUnreadable, 3: ErrUnreadable, 4: ErrDevice, 7: ErrGone}
	var got []Range
	faults, err := ReadFull(h, Range{0x800, 0xa800}, make([]byte, 0x1800), func(a Addr, p []byte) error {
		for i, b := range p {
			if b != byte((a+Addr(i))/PageSize) {
				t.Fatalf("%v holds %d", a+Addr(i), b)
			}
		}
		if k := len(got); k > 0 && got[k-1].End == a {
			got[k-1].End += Addr(len(p))
		} else {
			got = append(got, Range{a, a + Addr(len(p))})
		}
		return nil
	})
	wantFaults := []Fault{{Range{0x2000, 0x4000}, ErrUnreadable}, {Range{0x4000, 0x5000}, ErrDevice}, {Range{0x7000, 0xa800}, ErrGone}}
	if err != nil || !slices.Equal(faults, wantFaults) {
		t.Errorf("faults %v, %v", faults, err)
	}
	if want := []Range{{0x800, 0x2000}, {0x5000, 0x7000}}; !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	stop := errors.New("enough")
	if _, err := ReadFull(h, Range{0, 0x1000}, make([]byte, 16), func(Addr, []byte) error { return stop }); err != stop {
		t.Errorf("the error of the sink came back as %v", err)
	}
}

func TestRegisters(t *testing.T) {
	for _, a := range []Arch{AMD64, I386, ARM64} {
		data := make([]byte, a.GPRSize())
		pc, sp := a.PCSP()
		data[pc*a.WordSize()], data[sp*a.WordSize()] = 1, 2
		th := Thread{Regsets: []Regset{{NTPRStatus, data}}}
		if gotPC, gotSP, ok := a.PC(&th); gotPC != 1 || gotSP != 2 || !ok {
			t.Errorf("%v: pc %v, sp %v, %v", a, gotPC, gotSP, ok)
		}
		if a.Registers(data[1:]) != nil {
			t.Errorf("%v: registers of a wrong size", a)
		}
	}
	if _, _, ok := AMD64.PC(&Thread{}); ok {
		t.Error("a thread without registers has a pc")
	}
}
