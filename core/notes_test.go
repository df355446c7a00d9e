package core

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

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
		b := encodePRStatus(c.arch, &th)
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
		back := decodePRStatus(c.arch, b)
		th.Regsets = th.Regsets[:1]
		if !reflect.DeepEqual(back, th) {
			t.Errorf("%v: decoded %+v", c.arch, back)
		}
		if th := decodePRStatus(c.arch, b[1:]); th.Err == nil {
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
		b := encodePRPSInfo(c.arch, &p)
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
		back, err := decodePRPSInfo(c.arch, b)
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
		if b := encodePRPSInfo(procmem.AMD64, &procmem.ProcessInfo{State: state}); string(b[:2]) != want {
			t.Errorf("state %q: %q, want %q", state, b[:2], want)
		}
	}
}

func TestNotesOrder(t *testing.T) {
	img := fakeImage(procmem.AMD64, nil)
	img.Threads[0].Regsets = append(img.Threads[0].Regsets, procmem.Regset{Type: procmem.NTX86ShStk, Data: make([]byte, 8)},
		procmem.Regset{Type: procmem.NT386IOPerm})
	var got []string
	img.XSaveLayout = make([]byte, 16)
	for _, n := range standardNotes(img) {
		got = append(got, n.Name+noteName(n.Type))
	}
	want := "CORE.prstatus CORE.prpsinfo CORE.siginfo CORE.auxv CORE.file CORE.fp LINUX.xstate LINUX.204 " +
		"CORE.prstatus CORE.siginfo CORE.fp LINUX.205"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if notes := standardNotes(&procmem.Image{Arch: procmem.AMD64}); len(notes) != 4 {
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
	case ntFile:
		return ".file"
	case ntSigInfo:
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
	b, err := encodeNotes(notes)
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
	err = scanNotes(bytes.NewReader(b), 0, int64(len(b)), int64(len(b)), func(n NoteInfo) bool {
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
		b := encodeFiles(a, ms)
		if len(b) != a.WordSize()*8+len(ms[0].Path)+len(ms[2].Path)+2 || b[len(b)-1] != 0 || b[2*a.WordSize()+2*a.WordSize()] != 2 {
			t.Errorf("%v: %q", a, b)
		}
		got, err := decodeFiles(a, b, 0)
		want := []fileEntry{{ms[0].Range, 0x2000, ms[0].Path}, {ms[2].Range, 0, ms[2].Path}}
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
	text := encodeMaps(ms)
	if want := "1000-3000 r-xp 00002000 fd:01 77 /a  b\\012c (deleted)\n3000-4000 rw-s 00000000 00:00 0\n"; !strings.HasPrefix(string(text), want) {
		t.Errorf("%q", text)
	}
	got, err := decodeMaps(string(text))
	if err != nil || !reflect.DeepEqual(got, ms) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := decodeMaps(string(encodeMaps(nil))); err != nil || got != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
	for _, bad := range []string{"x", "1000 rw-p 0 0:0 0", "2000-1000 rw-p 0 0:0 0", "1000-2000 rw-p 0 0:0", "1000-2000 rwxy 0 0:0 0",
		"1000-3000 rw-p 0 0:0 0\n2000-4000 rw-p 0 0:0 0"} {
		if ms, err := decodeMaps(bad); err == nil || ms != nil {
			t.Errorf("%q decodes to %v", bad, ms)
		}
	}
}

func TestJoinMappings(t *testing.T) {
	seg := func(start, end procmem.Addr, perm procmem.Perm) segment {
		return segment{Range: rng(start, end), perm: perm}
	}
	rx := procmem.PermRead | procmem.PermExec
	segs := []segment{
		seg(0x1000, 0x2000, rx), seg(0x2000, 0x4000, rx), // one mapping in two parts
		seg(0x4000, 0x8000, rw),                          // two files and the anonymous rest
		seg(0x9000, 0xa000, rw), seg(0xa000, 0xb000, rw), // two anonymous mappings
	}
	files := []fileEntry{
		{rng(0xc000, 0xd000), 0x5000, "/only named"},
		{rng(0x4000, 0x5000), 0x1000, "/b"}, {rng(0x5000, 0x6000), 0, "/c"},
		{rng(0x1000, 0x4000), 0, "/a"},
		{rng(0x3000, 0x4000), 0, "/hidden"}, {rng(0xe000, 0xe000), 0, "/empty"},
	}
	var got []string
	for _, m := range joinMappings(segs, files) {
		got = append(got, m.String())
	}
	want := []string{
		"1000-4000 r-xp 00000000 00:00 0 /a", "4000-5000 rw-p 00001000 00:00 0 /b", "5000-6000 rw-p 00000000 00:00 0 /c",
		"6000-8000 rw-p 00000000 00:00 0", "9000-a000 rw-p 00000000 00:00 0", "a000-b000 rw-p 00000000 00:00 0",
		"c000-d000 ---p 00005000 00:00 0 /only named",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A thread that runs on a stack of its own making does not hide the stack.
func TestStackName(t *testing.T) {
	img := fakeImage(procmem.AMD64, []procmem.Mapping{anon(0x1000, 0x2000, rw, ""), anon(0x7000, 0x9000, rw, "")})
	sp := make([]byte, procmem.AMD64.GPRSize())
	binary.LittleEndian.PutUint64(sp[19*8:], 0x1800)
	img.Threads[0].Regsets[0].Data = sp
	img.Auxv = nil
	for _, w := range []uint64{procmem.ATExecFn, 0x8ff0, 0, 0} {
		img.Auxv = binary.LittleEndian.AppendUint64(img.Auxv, w)
	}
	nameMappings(img)
	if img.Mappings[1].Path != "[stack]" || img.Mappings[0].Path != "" {
		t.Errorf("%v", img.Mappings)
	}
	img.Mappings[1].Path, img.Auxv = "", nil
	nameMappings(img)
	if img.Mappings[0].Path != "[stack]" {
		t.Errorf("%v", img.Mappings)
	}
}
