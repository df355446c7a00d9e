package procfs

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem"
)

// checkMappings checks what holds for each list of mappings: there is it or an
// error, and it ascends.
func checkMappings(t *testing.T, ms []procmem.Mapping, err error, usage bool) {
	t.Helper()
	if err != nil && ms != nil {
		t.Fatalf("%d mappings and %v", len(ms), err)
	}
	for i := range ms {
		if ms[i].Empty() || i > 0 && ms[i].Start < ms[i-1].End {
			t.Fatalf("%v after %v", &ms[i], &ms[max(i-1, 0)])
		}
		if (ms[i].Usage != nil) != usage {
			t.Fatalf("usage %v", ms[i].Usage)
		}
	}
}

// fuzzInTime fails where made-up input of this size, a MiB at most, has taken too
// long.
func fuzzInTime(t *testing.T, began time.Duration) {
	if took := processorTime() - began; took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// processorTime is what this process has had so far: a busy machine does not count.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func FuzzParseMaps(f *testing.F) {
	f.Add([]byte(mapsText))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer fuzzInTime(t, processorTime())
		ms, err := ParseMaps(bytes.NewReader(text))
		checkMappings(t, ms, err, false)
		if err != nil {
			return
		}
		// What was parsed can be printed, and is the same again.
		var again strings.Builder
		for i := range ms {
			again.WriteString(strings.ReplaceAll(ms[i].String(), "\n", `\012`) + "\n")
		}
		more, err := ParseMaps(strings.NewReader(again.String()))
		if err != nil || len(more) != len(ms) {
			t.Fatalf("printed and parsed again: %d mappings, %v; want %d", len(more), err, len(ms))
		}
		for i := range ms {
			if ms[i].Range != more[i].Range || ms[i].Perm != more[i].Perm || ms[i].Inode != more[i].Inode {
				t.Fatalf("%v; want %v", &more[i], &ms[i])
			}
		}
	})
}

func FuzzParseSmaps(f *testing.F) {
	f.Add([]byte(smapsText))
	f.Fuzz(func(t *testing.T, text []byte) {
		defer fuzzInTime(t, processorTime())
		ms, err := ParseSmaps(bytes.NewReader(text))
		checkMappings(t, ms, err, true)
	})
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) S (b)" + statFields))
	f.Fuzz(func(t *testing.T, text []byte) {
		st, err := ParseStat(bytes.NewReader(text))
		if (st == nil) != (err != nil) {
			t.Fatalf("%+v and %v", st, err)
		}
		if st != nil && (st.UserTime < 0 || st.SystemTime < 0 || st.ChildUserTime < 0 || st.ChildSystemTime < 0) {
			t.Fatalf("%+v", st)
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte(statusText))
	f.Fuzz(func(t *testing.T, text []byte) {
		st, err := ParseStatus(bytes.NewReader(text))
		if (st == nil) != (err != nil) {
			t.Fatalf("%+v and %v", st, err)
		}
	})
}

func FuzzParseAuxv(f *testing.F) {
	f.Add(auxv64(3, 0x400040, 6, 4096, 0, 0), false)
	f.Fuzz(func(t *testing.T, b []byte, small bool) {
		arch := procmem.AMD64
		if small {
			arch = procmem.I386
		}
		auxv, err := ParseAuxv(b, arch)
		if (auxv == nil) != (err != nil) {
			t.Fatalf("%x and %v", auxv, err)
		}
		pair := 2 * arch.WordSize()
		if auxv != nil && (len(auxv)%pair != 0 || !bytes.HasPrefix(b, auxv)) {
			t.Fatalf("%x of %x", auxv, b)
		}
	})
}

func FuzzParseSyscall(f *testing.F) {
	f.Add([]byte("202 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffc0 0x7f00\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		sc, err := ParseSyscall(bytes.NewReader(text))
		if (sc == nil) != (err != nil) {
			t.Fatalf("%+v and %v", sc, err)
		}
		if sc != nil && sc.Running && *sc != (Syscall{Running: true}) {
			t.Fatalf("%+v", sc)
		}
	})
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add([]byte(mountinfoText))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, m := range ParseMountinfo(bytes.NewReader(text)) {
			if m.Point == "" || m.Root == "" || m.Type == "" {
				t.Fatalf("%+v", m)
			}
		}
	})
}

func FuzzParseCgroup(f *testing.F) {
	f.Add([]byte("4:cpu,memory:/a:b\n0::/..\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, g := range ParseCgroup(bytes.NewReader(text)) {
			if g.Controllers != nil && len(g.Controllers) == 0 {
				t.Fatalf("%+v", g)
			}
		}
	})
}
