package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
)

// What is said of gdb is what it does, with the areas of processors that are not
// at hand.
func TestOldGDB(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("there is no such area")
	}
	gdb, err := exec.LookPath("gdb")
	if err != nil {
		if os.Getenv("PROCMEM_TEST_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	old := gdbVersion(t, gdb) < 14
	p := testproc.Start(t, testproc.Kids)
	dir := t.TempDir()
	out := ok(t, "core", "-o", filepath.Join(dir, "core"), strconv.Itoa(p.PID()))
	c, err := core.Open(filepath.Join(dir, "core."+strconv.Itoa(p.PID())))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if says := strings.Contains(out, oldGDB); says != warnsOldGDB(c.Image()) {
		t.Errorf("it is said: %v\n%s", says, out)
	}
	for _, area := range []struct {
		name string
		xcr0 uint64
		size int
		want bool
	}{
		{"AVX", 0x7, 832, false},
		{"Intel, AVX-512", 0xe7, 2688, false},
		{"Intel, AVX-512 and PKRU", 0x2e7, 2696, false},
		{"Intel, MPX", 0x1f, 1088, false},
		{"Intel, AMX", 0x602e7, 11008, true},
		{"AMD, AVX-512 and PKRU", 0x2e7, 2440, true},
		{"AMD, PKRU", 0x207, 840, true},
		{"SSE", 0x3, 576, false},
	} {
		img := *c.Image()
		img.XSaveLayout = nil
		img.Threads = []procmem.Thread{img.Threads[0]}
		img.Threads[0].Regsets = withArea(img.Threads[0].Regsets, area.xcr0, area.size)
		if got := warnsOldGDB(&img); got != area.want {
			t.Errorf("%s: %v", area.name, got)
		}
		path := filepath.Join(dir, "made")
		writeCore(t, path, &img, c)
		cmd := exec.Command(gdb, "-nx", "-batch", "-ex", "info registers rip", p.Path, path)
		cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBUGINFOD_URLS=")
		b, err := cmd.CombinedOutput()
		if warns := strings.Contains(string(b), ".reg-xstate"); err != nil || warns != (area.want && old) || !strings.Contains(string(b), "rip") {
			t.Errorf("%s: gdb (old: %v) warns: %v, %v\n%s", area.name, old, warns, err, b)
		}
	}
}

func gdbVersion(t *testing.T, gdb string) int {
	t.Helper()
	b, err := exec.Command(gdb, "--version").Output()
	m := regexp.MustCompile(`(?m)^GNU gdb .*?(\d+)\.\d[\w.-]*$`).FindSubmatch(b)
	if err != nil || m == nil {
		t.Fatalf("%v: %.100s", err, b)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// withArea returns register sets with an xsave area of that kind.
func withArea(sets []procmem.Regset, xcr0 uint64, size int) (out []procmem.Regset) {
	for _, s := range sets {
		if s.Type != procmem.NTX86XState {
			out = append(out, s)
			continue
		}
		area := make([]byte, size)
		copy(area, s.Data[:min(len(s.Data), 576)])
		binary.LittleEndian.PutUint64(area[464:], xcr0)
		binary.LittleEndian.PutUint64(area[512:], xcr0&3)
		out = append(out, procmem.Regset{Type: s.Type, Data: area})
	}
	return out
}

func writeCore(t *testing.T, path string, img *procmem.Image, mem *core.File) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := core.NewStreamWriter(f, img, mem.Segments())
	if err == nil {
		err = w.Copy(t.Context(), mem)
	}
	if err == nil {
		err = w.Finish(img, &core.Report{Version: "test", Method: "stop"})
	}
	if err != nil {
		t.Fatal(fmt.Errorf("write core: %w", err))
	}
}
