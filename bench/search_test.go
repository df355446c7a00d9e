package bench

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	pm "github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
)

// scan is a search of the whole target by procmem, and what is expected of it.
type scan struct {
	what   string
	args   []string // of procmem
	status int      // that it ends with
	other  []string // a command that does the same, nil where there is none
	// The goals; 0 is none.
	ofCeiling float64 // of the speed at which the memory can be read at all
	perSecond float64 // bytes
	times     float64 // as fast as the other
}

// absent is found nowhere, and odd is a number that the target hardly holds.
const (
	absent = "procmem-never-there"
	odd    = "2019915346"
)

// scans returns what is measured on the process pid, whose data is also in a
// file.
func scans(t *testing.T, pid int, file string) []scan {
	t.Helper()
	dir := t.TempDir()
	rule := writeFile(t, dir, "rule.yar", fmt.Sprintf("rule r { strings: $a = %q condition: $a }\n", absent))
	target := fmt.Sprint(pid)
	search := func(args ...string) []string { return append([]string{*binary, "search", target, "--count"}, args...) }
	return []scan{
		{what: "a literal that is absent", args: search("--string", absent), status: 1,
			other: []string{"yara", rule, target}, ofCeiling: 0.6, times: 10},
		{what: "1,000 literals that are absent", args: search("-f", writeFile(t, dir, "words", words(1000))), status: 1, perSecond: 1e9},
		{what: "regexp `[a-z]+@example\\.com`", args: search("--regexp", `[a-z]+@example\.com`), status: 1, perSecond: 2e9},
		{what: "regexp `[0-9a-f]{32}`", args: search("--regexp", `[0-9a-f]{32}`), status: 1, perSecond: 300e6},
		{what: "a u32, aligned", args: search("--type", "u32", odd), status: 1, ofCeiling: 0.5, times: 10,
			other: []string{"scanmem", "-e", "-p", target, "-c", "option region_scan_level 3;option scan_data_type int32;" + odd + ";exit"}},
		{what: "strings -n 8", args: []string{*binary, "strings", target, "-n", "8"}, times: 10,
			other: []string{"strings", "-a", "-n", "8", file}},
	}
}

// words returns so many lines of random letters.
func words(n int) string {
	random := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for range n {
		for range 8 + random.IntN(9) {
			b.WriteByte('A' + byte(random.IntN(26)))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// searching compares searches of a process with the tools of the kind, and
// with what it takes to read its memory.
func searching(t *testing.T, w io.Writer) {
	for _, name := range []string{"yara", "scanmem", "strings"} {
		if _, err := exec.LookPath(name); err != nil {
			skip(w, name+" is not installed")
			return
		}
	}
	c := contents{text: gib / 2, random: gib / 2}
	s, data, _ := c.start(t)
	file := filepath.Join(*disk, fmt.Sprintf("bench-data-%d", os.Getpid()))
	t.Cleanup(func() { os.Remove(file) })
	runCommand(t, 0, file, *binary, "read", fmt.Sprint(s.pid), data.String(), "-f", "raw")

	all := scans(t, s.pid, file)
	ours, theirs := make([][]float64, len(all)), make([][]float64, len(all))
	var ceiling []float64
	change := 0.0
	for round := range *rounds + 1 { // the first one warms up
		took := readAll(t, s.pid, data)
		if round > 0 {
			ceiling = append(ceiling, took)
		}
		for i, x := range all {
			before := footprint(t, s.pid)
			took := runCommand(t, x.status, os.DevNull, x.args...)
			change = max(change, math.Abs(footprint(t, s.pid)-before))
			if round > 0 {
				ours[i] = append(ours[i], took)
			}
			if x.other != nil {
				if took := runCommand(t, 0, os.DevNull, x.other...); round > 0 {
					theirs[i] = append(theirs[i], took)
				}
			}
		}
	}
	size := float64(s.size)
	top := median(sorted(ceiling))
	fmt.Fprintf(w, `The whole command, from its start to its end. The ceiling is process_vm_readv of the same memory by %d threads: %s,
%.2f GB/s. The others are yara, scanmem's first scan, and binutils' strings on a file of the same data.

| what | procmem | GB/s | of the ceiling | the other | times as fast |
| --- | --- | --- | --- | --- | --- |
`, runtime.NumCPU(), quote(sorted(ceiling), 1e3, "ms"), size/top/1e9)
	for i, x := range all {
		us := median(sorted(ours[i]))
		other, times := "-", "-"
		if x.other != nil {
			other = x.other[0] + ", " + quote(sorted(theirs[i]), 1e3, "ms")
			times = number(median(theirs[i]) / us)
		}
		fmt.Fprintf(w, "| %s | %s | %.2f | %.2f | %s | %s |\n", x.what, quote(ours[i], 1e3, "ms"), size/us/1e9, top/us, other, times)
	}
	for i, x := range all {
		us := median(ours[i])
		if x.ofCeiling > 0 {
			goalLine(w, fmt.Sprintf("%s: ≥ %.1f of the ceiling", x.what, x.ofCeiling), top/us >= x.ofCeiling, fmt.Sprintf("%.2f", top/us))
		}
		if x.perSecond > 0 {
			goalLine(w, fmt.Sprintf("%s: ≥ %.1f GB/s", x.what, x.perSecond/1e9), size/us >= x.perSecond, fmt.Sprintf("%.2f GB/s", size/us/1e9))
		}
		if x.times > 0 {
			n := median(theirs[i]) / us
			goalLine(w, fmt.Sprintf("%s: ≥ %.0f times as fast as %s", x.what, x.times, x.other[0]), n >= x.times, number(n))
		}
	}
	goalLine(w, "the target's memory is unchanged within 1 MiB in all runs", change <= mib, mebibytes(change))
}

// runCommand returns the seconds that a command took, which prints to a file.
func runCommand(t *testing.T, status int, output string, args ...string) float64 {
	t.Helper()
	out, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var stderr bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, &stderr
	began := time.Now()
	cmd.Run()
	took := time.Since(began).Seconds()
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Fatalf("%v: status %d; want %d\n%s", args, got, status, &stderr)
	}
	return took
}

// readAll returns the seconds that it takes to read a range of a process, by a
// thread for each processor.
func readAll(t *testing.T, pid int, r pm.Range) float64 {
	t.Helper()
	const block = 2 << 20
	threads := pm.Addr(runtime.NumCPU())
	share := (r.End - r.Start) / threads / block * block
	var wg sync.WaitGroup
	began := time.Now()
	for i := range threads {
		part := pm.Range{Start: r.Start + i*share, End: r.Start + (i+1)*share}
		if i == threads-1 {
			part.End = r.End
		}
		wg.Go(func() {
			buf := sys.Aligned(block)
			for a := part.Start; a < part.End; a += block {
				if _, err := sys.ReadProcess(pid, buf[:min(block, part.End-a)], uint64(a)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(began).Seconds()
}

// diffing compares two cores of a process, of which a hundredth of the pages
// were changed.
func diffing(t *testing.T, w io.Writer) {
	const goal = 1e9
	if reason := lacks(float64(4*gib / *scale), *disk); reason != "" {
		skip(w, reason)
		return
	}
	s, data, _ := contents{text: gib / 2, random: gib / 2}.start(t)
	a := s.core(t, procmem())
	b := a + "-b"
	t.Cleanup(func() { os.Remove(b) })
	if err := os.Rename(a, b); err != nil {
		t.Fatal(err)
	}
	changePages(t, s.pid, data, 100)
	a = s.core(t, procmem())
	var v []float64
	for round := range *rounds + 1 {
		took := runCommand(t, 1, os.DevNull, *binary, "diff", b, a)
		if round > 0 {
			v = append(v, took)
		}
	}
	v = sorted(v)
	speed := float64(s.size) / median(v)
	fmt.Fprintf(w, "The cores are in the page cache. %s, %.2f GB/s of each.\n", quote(v, 1e3, "ms"), speed/1e9)
	goalLine(w, fmt.Sprintf("≥ %.0f GB/s of each", goal/1e9), speed >= goal, fmt.Sprintf("%.2f GB/s", speed/1e9))
}

// changePages writes to each nth page of r.
func changePages(t *testing.T, pid int, r pm.Range, n pm.Addr) {
	t.Helper()
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for a := r.Start; a < r.End; a += n * pm.PageSize {
		if _, err := mem.WriteAt([]byte("changed"), int64(a)+100); err != nil {
			t.Fatal(err)
		}
	}
}
