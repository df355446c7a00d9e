package elfcore

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

const rw = procmem.PermRead | procmem.PermWrite

func rng(start, end procmem.Addr) procmem.Range { return procmem.Range{Start: start, End: end} }

func anon(start, end procmem.Addr, perm procmem.Perm, path string) procmem.Mapping {
	return procmem.Mapping{Range: rng(start, end), Perm: perm, Path: path}
}

// The offsets are those of the kernel's structures, written down here a second
// time.
func TestPRStatus(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		arch                                  procmem.Arch
		size, pend, hold, pid, stime, reg, fp int
	}{
		{procmem.AMD64, 336, 16, 24, 32, 64, 112, 328},
		{procmem.I386, 144, 16, 20, 24, 48, 72, 140},
		{procmem.ARM64, 392, 16, 24, 32, 64, 112, 384},
	} {
		th := procmem.Thread{TID: 7, PPID: 5, PGRP: 6, SID: 4, Signal: 11, Pending: 1 << 8, Blocked: 1 << 17,
			SystemTime: 3*time.Second + 250*time.Microsecond,
			Regsets: []procmem.Regset{{Type: procmem.NTPRStatus, Data: bytes.Repeat([]byte{0xab}, c.arch.GPRSize())},
				{Type: procmem.NTFPRegset, Data: []byte{1}}}}
		b := EncodePRStatus(c.arch, &th)
		if len(b) != c.size {
			t.Errorf("%v: %d bytes, want %d", c.arch, len(b), c.size)
			continue
		}
		w := c.arch.WordSize()
		word := func(at int) uint64 { return wordAt(c.arch, b[at:]) }
		for name, got := range map[string]bool{
			"signo":       le.Uint32(b) == 11,
			"cursig":      le.Uint16(b[12:]) == 11,
			"pending":     word(c.pend) == 1<<8,
			"blocked":     word(c.hold) == 1<<17,
			"pid":         le.Uint32(b[c.pid:]) == 7,
			"ppid":        le.Uint32(b[c.pid+4:]) == 5,
			"pgrp":        le.Uint32(b[c.pid+8:]) == 6,
			"sid":         le.Uint32(b[c.pid+12:]) == 4,
			"system time": word(c.stime) == 3 && word(c.stime+w) == 250,
			"registers":   b[c.reg] == 0xab && b[c.reg-1] == 0 && b[c.fp-1] == 0xab,
			"fpvalid":     le.Uint32(b[c.fp:]) == 1,
		} {
			if !got {
				t.Errorf("%v: %s is not where it should be", c.arch, name)
			}
		}
		back := DecodePRStatus(c.arch, b)
		th.Regsets = th.Regsets[:1]
		if !reflect.DeepEqual(back, th) {
			t.Errorf("%v: decoded %+v", c.arch, back)
		}
		if th := DecodePRStatus(c.arch, b[1:]); th.Err == nil {
			t.Errorf("%v: a short note decodes", c.arch)
		}
	}
}

func TestPRPSInfo(t *testing.T) {
	le := binary.LittleEndian
	p := procmem.ProcessInfo{PID: 9, PPID: 8, PGRP: 7, SID: 6, UID: 70000, GID: 100, State: 'Z', Nice: -5, Flags: 0x402140,
		Name: "a-name-of-more-than-15", Args: strings.Repeat("x", 100)}
	for _, c := range []struct {
		arch                     procmem.Arch
		size, uid, gid, pid, nam int
		wide                     bool
	}{
		{procmem.AMD64, 136, 16, 20, 24, 40, true},
		{procmem.ARM64, 136, 16, 20, 24, 40, true},
		{procmem.I386, 124, 8, 10, 12, 28, false},
	} {
		b := EncodePRPSInfo(c.arch, &p)
		if len(b) != c.size {
			t.Errorf("%v: %d bytes, want %d", c.arch, len(b), c.size)
			continue
		}
		uid := uint32(le.Uint16(b[c.uid:]))
		if c.wide {
			uid = le.Uint32(b[c.uid:])
		}
		if want := map[bool]uint32{true: 70000, false: 65534}[c.wide]; uid != want {
			t.Errorf("%v: uid %d, want %d", c.arch, uid, want)
		}
		if b[0] != 4 || b[1] != 'Z' || b[2] != 1 || int8(b[3]) != -5 || le.Uint32(b[c.pid:]) != 9 || le.Uint32(b[c.pid+12:]) != 6 ||
			string(b[c.nam:c.nam+16]) != "a-name-of-more-\x00" || b[c.size-1] != 0 || b[c.size-2] != 'x' {
			t.Errorf("%v: %q", c.arch, b)
		}
		back, err := DecodePRPSInfo(c.arch, b)
		want := p
		want.Name, want.Args = p.Name[:15], p.Args[:79]
		if !c.wide {
			want.UID = 65534
		}
		if err != nil || back != want {
			t.Errorf("%v: decoded %+v, %v", c.arch, back, err)
		}
	}
	for state, want := range map[byte]string{'R': "\x00R", 'S': "\x01S", 'D': "\x02D", 'T': "\x03T", 't': "\x03T", 'W': "\x05W", 0: "\x00R", 'I': "\x06."} {
		if b := EncodePRPSInfo(procmem.AMD64, &procmem.ProcessInfo{State: state}); string(b[:2]) != want {
			t.Errorf("state %q: %q, want %q", state, b[:2], want)
		}
	}
}

func TestNotesOrder(t *testing.T) {
	gpr := procmem.Regset{Type: procmem.NTPRStatus, Data: make([]byte, procmem.AMD64.GPRSize())}
	fp := procmem.Regset{Type: procmem.NTFPRegset, Data: make([]byte, 512)}
	img := &procmem.Image{
		Arch: procmem.AMD64, Auxv: append([]byte{6, 15: 0}, make([]byte, 16)...), XSaveLayout: make([]byte, 16),
		Threads: []procmem.Thread{
			{TID: 41, Regsets: []procmem.Regset{gpr, {Type: procmem.NTX86XState, Data: make([]byte, 832)}, fp,
				{Type: procmem.NTX86ShStk, Data: make([]byte, 8)}, {Type: procmem.NT386IOPerm}}},
			{TID: 42, Regsets: []procmem.Regset{gpr, fp}},
		},
	}
	var got []string
	for _, n := range StandardNotes(img) {
		got = append(got, n.Name+noteName(n.Type))
	}
	want := "CORE.prstatus CORE.prpsinfo CORE.siginfo CORE.auxv CORE.file CORE.fp LINUX.xstate LINUX.204 " +
		"CORE.prstatus CORE.siginfo CORE.fp LINUX.205"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if notes := StandardNotes(&procmem.Image{Arch: procmem.AMD64}); len(notes) != 4 {
		t.Errorf("no threads: %d notes", len(notes)) // PRSTATUS, PRPSINFO, SIGINFO, FILE
	}
}

func noteName(typ uint32) string {
	switch typ {
	case 1:
		return ".prstatus"
	case 2:
		return ".fp"
	case 3:
		return ".prpsinfo"
	case 6:
		return ".auxv"
	case 0x202:
		return ".xstate"
	case 0x204:
		return ".204"
	case 0x205:
		return ".205"
	case NTFile:
		return ".file"
	case NTSigInfo:
		return ".siginfo"
	}
	return "?"
}

func TestRegsetsOfARM64(t *testing.T) {
	sve := make([]byte, 100)
	binary.LittleEndian.PutUint32(sve, 40)
	lying := make([]byte, 20)
	binary.LittleEndian.PutUint32(lying, 4000)
	th := procmem.Thread{Regsets: []procmem.Regset{
		{Type: ntARMPACAKeys, Data: make([]byte, 128)}, {Type: ntARMPACGKeys, Data: make([]byte, 16)},
		{Type: ntARMSVE, Data: sve}, {Type: ntARMZA, Data: lying}, {Type: ntARMSSVE, Data: sve[:3]}, {Type: 0x401, Data: sve[:16]}}}
	var got []int
	for _, n := range appendRegsets(nil, procmem.ARM64, &th) {
		got = append(got, int(n.Type), len(n.Desc))
	}
	if want := []int{ntARMSVE, 40, ntARMZA, 20, 0x401, 16}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %#x, want %#x", got, want)
	}
}

func TestNoteEncoding(t *testing.T) {
	notes := []Note{{"CORE", 1, []byte("abcde")}, {"x", 0xffffffff, nil}, {"LINUX", 2, []byte("1234")}}
	b, err := EncodeNotes(notes)
	if err != nil {
		t.Fatal(err)
	}
	want := "\x05\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00CORE\x00\x00\x00\x00abcde\x00\x00\x00" +
		"\x02\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xffx\x00\x00\x00" +
		"\x06\x00\x00\x00\x04\x00\x00\x00\x02\x00\x00\x00LINUX\x00\x00\x001234"
	if string(b) != want {
		t.Errorf("got  %q\nwant %q", b, want)
	}
	var back []Note
	err = ScanNotes(bytes.NewReader(b), 0, int64(len(b)), int64(len(b)), func(n NoteInfo) bool {
		back = append(back, Note{n.Name, n.Type, append([]byte(nil), b[n.Offset:n.Offset+n.Size]...)})
		return true
	})
	if err != nil || !reflect.DeepEqual(back, notes) {
		t.Errorf("scanned %v, %v", back, err)
	}
}

func TestFileNote(t *testing.T) {
	ms := []procmem.Mapping{
		{Range: rng(0x1000, 0x3000), Offset: 0x2000, Path: "/a b (deleted)", Inode: 1},
		anon(0x3000, 0x4000, rw, "[heap]"),
		{Range: rng(0x5000, 0x6000), Path: "/memfd:x\ny (deleted)", Inode: 2},
	}
	for _, a := range []procmem.Arch{procmem.AMD64, procmem.I386} {
		b := EncodeFiles(a, ms)
		if len(b) != a.WordSize()*8+len(ms[0].Path)+len(ms[2].Path)+2 || b[len(b)-1] != 0 || b[2*a.WordSize()+2*a.WordSize()] != 2 {
			t.Errorf("%v: %q", a, b)
		}
		got, err := DecodeFiles(a, b, 0)
		want := []FileEntry{{ms[0].Range, 0x2000, ms[0].Path}, {ms[2].Range, 0, ms[2].Path}}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
}

func TestMapsNote(t *testing.T) {
	ms := []procmem.Mapping{
		{Range: rng(0x1000, 0x3000), Perm: procmem.PermRead | procmem.PermExec, Offset: 0x2000, Major: 0xfd, Minor: 1, Inode: 77, Path: "/a  b\nc (deleted)"},
		anon(0x3000, 0x4000, rw|procmem.PermShared, ""),
		anon(0xffffffffff600000, 0xffffffffff601000, procmem.PermExec, "[vsyscall]"),
	}
	text := EncodeMaps(ms)
	if want := "1000-3000 r-xp 00002000 fd:01 77 /a  b\\012c (deleted)\n3000-4000 rw-s 00000000 00:00 0\n"; !strings.HasPrefix(string(text), want) {
		t.Errorf("%q", text)
	}
	got, err := DecodeMaps(string(text))
	if err != nil || !reflect.DeepEqual(got, ms) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := DecodeMaps(string(EncodeMaps(nil))); err != nil || got != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
	for _, bad := range []string{"x", "1000 rw-p 0 0:0 0", "2000-1000 rw-p 0 0:0 0", "1000-2000 rw-p 0 0:0", "1000-2000 rwxy 0 0:0 0",
		"1000-3000 rw-p 0 0:0 0\n2000-4000 rw-p 0 0:0 0"} {
		if ms, err := DecodeMaps(bad); err == nil || ms != nil {
			t.Errorf("%q decodes to %v", bad, ms)
		}
	}
}
