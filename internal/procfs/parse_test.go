package procfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

const mapsText = `55d0c0a00000-55d0c0a02000 r--p 00000000 fe:00 131074                     /usr/bin/cat
55d0c0a02000-55d0c0a07000 r-xp 00002000 fe:00 131074                     /usr/bin/cat
55d0c1f5b000-55d0c1f7c000 rw-p 00000000 00:00 0                          [heap]
7f3d1c000000-7f3d1c021000 rw-p 00000000 00:00 0 
7f3d1d000000-7f3d1d001000 r--s 00001000 00:01 1024                       /memfd:a b (deleted)
7f3d1d002000-7f3d1d003000 -w-p 00000000 103:04 18446744073709551615      /tmp/new\012line and  spaces
7f3d1d003000-7f3d1d004000 --xp 00000000 00:00 0                          [anon: arena 1]
7ffd3a5d7000-7ffd3a5f8000 rw-p 00000000 00:00 0                          [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
`

func TestParseMaps(t *testing.T) {
	ms, err := ParseMaps(strings.NewReader(mapsText))
	if err != nil || len(ms) != 9 {
		t.Fatalf("%d mappings, %v", len(ms), err)
	}
	const rw = procmem.PermRead | procmem.PermWrite
	for i, want := range map[int]procmem.Mapping{
		0: {Range: procmem.Range{Start: 0x55d0c0a00000, End: 0x55d0c0a02000}, Perm: procmem.PermRead, Major: 0xfe, Inode: 131074, Path: "/usr/bin/cat"},
		2: {Range: procmem.Range{Start: 0x55d0c1f5b000, End: 0x55d0c1f7c000}, Perm: rw, Path: "[heap]"},
		3: {Range: procmem.Range{Start: 0x7f3d1c000000, End: 0x7f3d1c021000}, Perm: rw},
		4: {Range: procmem.Range{Start: 0x7f3d1d000000, End: 0x7f3d1d001000}, Perm: procmem.PermRead | procmem.PermShared,
			Offset: 0x1000, Minor: 1, Inode: 1024, Path: "/memfd:a b (deleted)"},
		5: {Range: procmem.Range{Start: 0x7f3d1d002000, End: 0x7f3d1d003000}, Perm: procmem.PermWrite, Major: 0x103, Minor: 4,
			Inode: 1<<64 - 1, Path: "/tmp/new\nline and  spaces"},
		6: {Range: procmem.Range{Start: 0x7f3d1d003000, End: 0x7f3d1d004000}, Perm: procmem.PermExec, Path: "[anon: arena 1]"},
		8: {Range: procmem.Range{Start: 0xffffffffff600000, End: 0xffffffffff601000}, Perm: procmem.PermExec, Path: "[vsyscall]"},
	} {
		if !reflect.DeepEqual(ms[i], want) {
			t.Errorf("mapping %d: %+v; want %+v", i, ms[i], want)
		}
	}
	if ms, err := ParseMaps(strings.NewReader("")); len(ms) != 0 || err != nil {
		t.Errorf("of a zombie: %v, %v; want none", ms, err)
	}
	// A name may end with anything.
	if ms, err := ParseMaps(strings.NewReader("1000-2000 r--p 0 0:0 7 /a\r\n")); err != nil || ms[0].Path != "/a\r" {
		t.Errorf("%+v, %v; want the path /a\\r", ms, err)
	}
}

func TestParseMapsErrors(t *testing.T) {
	const good = "1000-2000 r--p 00000000 00:00 0 \n"
	for text, want := range map[string]string{
		"\n":                                 "line 1",
		good + "\n":                          "line 2",
		good + "x":                           "line 2",
		"1000 r--p 0 0:0 0":                  "START-END",
		"1000-g r--p 0 0:0 0":                "invalid syntax",
		"2000-1000 r--p 0 0:0 0":             "empty",
		"1000-1000 r--p 0 0:0 0":             "empty",
		"1000-10000000000000000 r--p 0 0:0 ": "out of range",
		"1000-2000":                          "permissions",
		"1000-2000 rwx 0 0:0 0":              "permissions",
		"1000-2000 xwrp 0 0:0 0":             "permissions",
		"1000-2000 r--p":                     "offset",
		"1000-2000 r--p -1 0:0 0":            "offset",
		"1000-2000 r--p 0 0 0":               "MAJOR:MINOR",
		"1000-2000 r--p 0 0:100000000 0":     "device",
		"1000-2000 r--p 0 0:0 a":             "inode",
		good + "1800-2800 r--p 0 0:0 0":      "not above",
		good + good:                          "not above",
		"3000-4000 r--p 0 0:0 0\n" + good:    "not above",
		strings.Repeat("1", 1<<17):           "START-END",
	} {
		ms, err := ParseMaps(strings.NewReader(text))
		if ms != nil || err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "parse maps: line ") {
			t.Errorf("%.60q: %v, %v; want an error with %q", text, ms, err, want)
		}
	}
	fails := errors.New("fails")
	if ms, err := ParseMaps(io.MultiReader(strings.NewReader(good), failing{fails})); ms != nil || !errors.Is(err, fails) {
		t.Errorf("reader that fails: %v, %v", ms, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

const smapsText = `7f3d1c000000-7f3d1c021000 rw-p 00000000 00:00 0 
Size:                132 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
Rss:                  12 kB
Pss:                  10 kB
Pss_Dirty:             8 kB
Shared_Clean:          1 kB
Shared_Dirty:          2 kB
Private_Clean:         3 kB
Private_Dirty:         6 kB
Referenced:           12 kB
Anonymous:             9 kB
AnonHugePages:         0 kB
Shared_Hugetlb:     2048 kB
Private_Hugetlb:    4096 kB
Swap:                  5 kB
SwapPss:               5 kB
Locked:                0 kB
THPeligible:           0
ProtectionKey:         0
SomethingNew:       what it likes
VmFlags: rd wr mr mw me ac sd dd zz 
7f3d1c021000-7f3d20000000 ---p 00000000 00:00 0 
Rss:                   0 kB
VmFlags: mr mw me nr
`

func TestParseSmaps(t *testing.T) {
	ms, err := ParseSmaps(strings.NewReader(smapsText))
	if err != nil || len(ms) != 2 {
		t.Fatalf("%d mappings, %v", len(ms), err)
	}
	want := procmem.Usage{RSS: 12 << 10, PSS: 10 << 10, SharedClean: 1 << 10, SharedDirty: 2 << 10, PrivateClean: 3 << 10,
		PrivateDirty: 6 << 10, Anonymous: 9 << 10, Swap: 5 << 10, HugeTLB: 6 << 20}
	if *ms[0].Usage != want || ms[0].Flags&procmem.VMDontDump == 0 || *ms[1].Usage != (procmem.Usage{}) || ms[1].Flags == 0 {
		t.Errorf("%+v %+v; want %+v", *ms[0].Usage, ms, want)
	}
	const head = "1000-2000 r--p 0 0:0 0\n"
	for text, want := range map[string]string{
		"Rss: 0 kB\n":                      "before the first mapping",
		head + "Rss 0 kB\n":                "NAME: VALUE",
		head + "Rss: kB\n":                 "want a size in kB",
		head + "Rss: 1\n":                  "want a size in kB",
		head + "Rss: 1 MB\n":               "want a size in kB",
		head + "Rss: -1 kB\n":              "want a size in kB",
		head + "Rss: 36028797018963968 kB": "want a size in kB",
		head + "Private_Hugetlb: x kB\n":   "Private_Hugetlb",
		head + head:                        "not above",
	} {
		if ms, err := ParseSmaps(strings.NewReader(text)); ms != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want an error with %q", text, ms, err, want)
		}
	}
}

// statText has the fields 3 to 52 of a real process.
const statFields = " S 1 7 6 0 -1 4194560 100 200 3 4 150 25 300 40 20 -5 9 0 123456 8192000 500 18446744073709551615 1 1 0 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"

func TestParseStat(t *testing.T) {
	for _, name := range []string{"cat", "", "a b", "a) S 1 (b", ")", "(((", "new\nline", "tab\tand ) R 5 5", "kworker/0:1-events"} {
		st, err := ParseStat(strings.NewReader("42 (" + name + ")" + statFields))
		want := Stat{PID: 42, Name: name, State: 'S', PPID: 1, PGRP: 7, SID: 6, Flags: 4194560, UserTime: 1500 * time.Millisecond,
			SystemTime: 250 * time.Millisecond, ChildUserTime: 3 * time.Second, ChildSystemTime: 400 * time.Millisecond, Nice: -5, StartTime: 123456}
		if err != nil || *st != want {
			t.Errorf("%q: %+v, %v; want %+v", name, st, err, want)
		}
	}
	for _, state := range []string{"S", "Z", "X", "t"} {
		st, err := ParseStat(strings.NewReader("42 (x)" + strings.Replace(statFields, "S", state, 1)))
		if err != nil || string(st.State) != state {
			t.Errorf("state %s: %+v, %v", state, st, err)
		}
	}
	fields := strings.Fields(statFields)
	for text, want := range map[string]string{
		"":                           "no name",
		"42 cat S 1":                 "no name",
		"(x)" + statFields:           "no name",
		"a (x)" + statFields:         "pid",
		"42 )x(" + statFields:        "no name",
		"42 (x) S 1 2":               "fields",
		"42 (x)":                     "fields",
		"42 (x) SS" + statFields[2:]: "fields",
		"42 (x) S x " + strings.Join(fields[2:], " "):                        "field 4",
		"42 (x) " + strings.Join(fields[:19], " ") + " 99999999999999999999": "field 22",
		"42 (x)" + statFields + strings.Repeat(" ", 1<<17):                   "too long",
	} {
		if st, err := ParseStat(strings.NewReader(text)); st != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %+v, %v; want an error with %q", text, st, err, want)
		}
	}
}

const statusText = `Name:	a b\n)
Umask:	0022
State:	t (tracing stop)
Tgid:	42
Ngid:	0
Pid:	43
PPid:	1
TracerPid:	7
Uid:	1	2	3	4294967295
Gid:	5	6	7	8
NStgid:	42	3	1
NSpid:	43	4	2
VmSize:	    8192 kB
VmRSS:	     100 kB
VmSwap:	       4 kB
Threads:	2
SigPnd:	0000000000000001
SigBlk:	fffffffe7ffbfeff
CapPrm:	000001ffffffffff
CapEff:	0000000000080000
NoNewPrivs:	1
Seccomp:	2
Something:	new
no colon
`

func TestParseStatus(t *testing.T) {
	st, err := ParseStatus(strings.NewReader(statusText))
	want := &Status{Name: `a b\n)`, State: 't', TGID: 42, PPID: 1, TracerPID: 7, UID: [4]uint32{1, 2, 3, 1<<32 - 1},
		GID: [4]uint32{5, 6, 7, 8}, NSPID: []int{43, 4, 2}, NSTGID: []int{42, 3, 1}, Threads: 2, SigPending: 1,
		SigBlocked: 0xfffffffe7ffbfeff, CapEff: 0x80000, CapPerm: 0x1ffffffffff, Seccomp: 2, NoNewPrivs: true,
		RSS: 100 << 10, Swap: 4 << 10, HasMemory: true}
	if err != nil || !reflect.DeepEqual(st, want) {
		t.Errorf("%+v, %v; want %+v", st, err, want)
	}
	if st, err := ParseStatus(strings.NewReader("State:\tS\n")); err != nil || st.NSPID != nil || st.HasMemory {
		t.Errorf("%+v, %v", st, err)
	}
	for text, want := range map[string]string{
		"":                          "no State",
		"Name:\tx\n":                "no State",
		"State:\t\n":                "no state",
		"State:\tS\nTgid:\tx\n":     "Tgid",
		"State:\tS\nUid:\t1 2 3\n":  "four ids",
		"State:\tS\nUid:\t1 2 3 x":  "Uid",
		"State:\tS\nUid:\t1 2 3 -1": "Uid",
		"State:\tS\nNSpid:\t1 x":    "NSpid",
		"State:\tS\nSigBlk:\txyz":   "SigBlk",
		"State:\tS\nVmRSS:\t1 MB":   "VmRSS",
		"State:\tS\nThreads:\t1.5":  "Threads",
	} {
		if st, err := ParseStatus(strings.NewReader(text)); st != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want an error with %q", text, st, err, want)
		}
	}
}

func auxv64(words ...uint64) (b []byte) {
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

func TestParseAuxv(t *testing.T) {
	whole := auxv64(6, 4096, 0, 0)
	small := []byte{6, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, c := range []struct {
		in   []byte
		arch procmem.Arch
		want []byte // nil for an error
	}{
		{whole, procmem.AMD64, whole},
		{append(bytes.Clone(whole), 1, 2, 3), procmem.AMD64, whole},
		{auxv64(0, 5), procmem.ARM64, auxv64(0, 5)},
		{small, procmem.I386, small},
		{nil, procmem.AMD64, nil},
		{whole[:24], procmem.AMD64, nil},
		{auxv64(6, 4096), procmem.AMD64, nil},
		{small[:12], procmem.I386, nil},
	} {
		got, err := ParseAuxv(c.in, c.arch)
		if !bytes.Equal(got, c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%v %x: %x, %v; want %x", c.arch, c.in, got, err, c.want)
		}
	}
}

func TestParseSyscall(t *testing.T) {
	for text, want := range map[string]*Syscall{
		"running\n":                          {Running: true},
		"-1 0x7ffc12345678 0x7f0011223344\n": {Number: -1, SP: 0x7ffc12345678, PC: 0x7f0011223344},
		"202 0x1 0x2 0x3 0x4 0x5 0xffffffffffffffff 0x7ffc0 0x7f00\n": {Number: 202,
			Args: [6]uint64{1, 2, 3, 4, 5, 1<<64 - 1}, SP: 0x7ffc0, PC: 0x7f00},
		"":                          nil,
		"walking":                   nil,
		"1 2":                       nil,
		"x 0x1 0x2":                 nil,
		"0 0x1 -2":                  nil,
		"0 0x 0x1":                  nil,
		"0 0x10000000000000000 0x1": nil,
		"1 2 3 4 5 6 7 8 9 10":      nil,
		strings.Repeat("1 ", 1<<16): nil,
	} {
		got, err := ParseSyscall(strings.NewReader(text))
		if !reflect.DeepEqual(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%.60q: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

// What this kernel prints about this process can be parsed.
func TestParseSelf(t *testing.T) {
	for name, parse := range map[string]func(io.Reader) error{
		"maps":    func(r io.Reader) error { _, err := ParseMaps(r); return err },
		"smaps":   func(r io.Reader) error { _, err := ParseSmaps(r); return err },
		"stat":    func(r io.Reader) error { _, err := ParseStat(r); return err },
		"status":  func(r io.Reader) error { _, err := ParseStatus(r); return err },
		"syscall": func(r io.Reader) error { _, err := ParseSyscall(r); return err },
	} {
		f, err := os.Open("/proc/self/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := parse(f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f.Close()
	}
}

// The paths of thousands of mappings are held in bounded memory.
func TestManyLongPaths(t *testing.T) {
	var text strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&text, "%x-%x r--p 00000000 00:01 %d /%s%d\n", (i+1)<<12, (i+2)<<12, i, strings.Repeat("x", 60000), i)
	}
	text.WriteString("7ffff7fc1000-7ffff7fc3000 r-xp 00000000 00:00 0                          [vdso]\n")
	ms, err := ParseMaps(strings.NewReader(text.String()))
	if err != nil || len(ms) != 4001 {
		t.Fatalf("%d mappings, %v", len(ms), err)
	}
	total := 0
	for _, m := range ms {
		total += len(m.Path)
	}
	if total > maxPaths+len(ms)*len(cutMark) || total < maxPaths/2 {
		t.Errorf("%d bytes of paths", total)
	}
	if ms[4000].Path != "[vdso]" || !ms[4000].Special() {
		t.Errorf("%q", ms[4000].Path)
	}
}

// The address of the random bytes is found in vectors of both sizes.
func TestAuxvValue(t *testing.T) {
	for name, c := range map[string]struct {
		auxv []byte
		want uint64
	}{
		"64 bit":  {slices.Concat(words(8, 6, 4096), words(8, 25, 0x7fff_0000_1230), words(8, 0, 0)), 0x7fff_0000_1230},
		"32 bit":  {slices.Concat(words(4, 6, 4096), words(4, 25, 0xffff_1230), words(4, 0, 0)), 0xffff_1230},
		"nothing": {words(8, 0, 0), 0},
		"torn":    {words(8, 25, 0)[:9], 0},
		"empty":   {nil, 0},
	} {
		if got := AuxvValue(c.auxv, 25); got != c.want {
			t.Errorf("%s: %#x; want %#x", name, got, c.want)
		}
	}
}

// words encodes words of a size, in bytes.
func words(size int, ws ...uint64) (b []byte) {
	for _, w := range ws {
		for range size {
			b, w = append(b, byte(w)), w>>8
		}
	}
	return b
}

const mountinfoText = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:44 /a\134b /srv/a\040b rw - fuse.sshfs host: rw,x
31 30 0:29 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory
no mount
33 22 x:y / /bad rw - nfs host:/ rw
34 22 0:50 / /net rw - nfs4
35 22 0:51 /
36 22 0:52 / /end\04 rw -
`

func TestParseMountinfo(t *testing.T) {
	got := ParseMountinfo(strings.NewReader(mountinfoText))
	want := []Mount{
		{Major: 254, Root: "/", Point: "/", Type: "ext4", Options: "rw"},
		{Minor: 44, Root: `/a\b`, Point: "/srv/a b", Type: "fuse.sshfs", Options: "rw,x"},
		{Minor: 29, Root: "/", Point: "/sys/fs/cgroup/memory", Type: "cgroup", Options: "rw,memory"},
		{Minor: 50, Root: "/", Point: "/net", Type: "nfs4"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v; want %+v", got, want)
	}
}

func TestParseCgroup(t *testing.T) {
	got := ParseCgroup(strings.NewReader("4:cpu,memory:/a:b\n1:name=systemd:/s\n0::/..\nno\n1:two\n\n"))
	want := []Cgroup{{[]string{"cpu", "memory"}, "/a:b"}, {[]string{"name=systemd"}, "/s"}, {nil, "/.."}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v; want %+v", got, want)
	}
}

func TestParseRuns(t *testing.T) {
	for text, want := range map[string]uint64{"7 8 9\n": 9, "0 0 0": 0, "": 1, "7 8\n": 1, "7 8 x\n": 1} { // 1 for an error
		if got, err := ParseRuns(strings.NewReader(text)); (err == nil) != (want != 1) || err == nil && got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}

func TestParseCoredumpFilter(t *testing.T) {
	for text, want := range map[string]uint32{"00000033\n": 0x33, "ffffffff": 1<<32 - 1, "": 0, "x": 0, "100000000": 0} { // 0 for an error
		if got, err := ParseCoredumpFilter([]byte(text)); (err == nil) != (want != 0) || got != want {
			t.Errorf("%q: %#x, %v; want %#x", text, got, err, want)
		}
	}
}
