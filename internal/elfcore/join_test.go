package elfcore

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"github.com/procmem/procmem"
)

func TestJoinMappings(t *testing.T) {
	seg := func(start, end procmem.Addr, perm procmem.Perm) Load { return Load{rng(start, end), perm} }
	rx := procmem.PermRead | procmem.PermExec
	segs := []Load{
		seg(0x1000, 0x2000, rx), seg(0x2000, 0x4000, rx), // one mapping in two parts
		seg(0x4000, 0x8000, rw),                          // two files and the anonymous rest
		seg(0x9000, 0xa000, rw), seg(0xa000, 0xb000, rw), // two anonymous mappings
	}
	files := []FileEntry{
		{rng(0xc000, 0xd000), 0x5000, "/only named"},
		{rng(0x4000, 0x5000), 0x1000, "/b"}, {rng(0x5000, 0x6000), 0, "/c"},
		{rng(0x1000, 0x4000), 0, "/a"},
		{rng(0x3000, 0x4000), 0, "/hidden"}, {rng(0xe000, 0xe000), 0, "/empty"},
	}
	var got []string
	for _, m := range JoinMappings(segs, files) {
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
	sp := make([]byte, procmem.AMD64.GPRSize())
	binary.LittleEndian.PutUint64(sp[19*8:], 0x1800)
	img := &procmem.Image{
		Arch: procmem.AMD64, Mappings: []procmem.Mapping{anon(0x1000, 0x2000, rw, ""), anon(0x7000, 0x9000, rw, "")},
		Process: procmem.ProcessInfo{PID: 41},
		Threads: []procmem.Thread{{TID: 41, Regsets: []procmem.Regset{{Type: procmem.NTPRStatus, Data: sp}}}},
	}
	for _, w := range []uint64{procmem.ATExecFn, 0x8ff0, 0, 0} {
		img.Auxv = binary.LittleEndian.AppendUint64(img.Auxv, w)
	}
	NameMappings(img)
	if img.Mappings[1].Path != "[stack]" || img.Mappings[0].Path != "" {
		t.Errorf("%v", img.Mappings)
	}
	img.Mappings[1].Path, img.Auxv = "", nil
	NameMappings(img)
	if img.Mappings[0].Path != "[stack]" {
		t.Errorf("%v", img.Mappings)
	}
}
