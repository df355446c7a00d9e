package bench

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

var (
	run   = flag.Bool("run-bench", false, "measure; takes some minutes and wants a quiet machine")
	tool  = flag.String("procmem", "", "the procmem to measure")
	write = flag.String("write", "", "the file for the table")
	disk  = flag.String("disk", "", "a folder on the disk to write to (default: the temporary folder)")
	only  = flag.String("only", "", "measure the cases that contain this text")
)

// rounds is how often each tool takes its turn; medians are quoted.
const rounds = 5

// scenario is one kind of target and place to write to.
type scenario struct {
	name string
	args []string // of testproc's program many
	tmp  bool     // write to tmpfs
	gap  bool     // quote the gap, too: its meter keeps a processor busy
}

var scenarios = []scenario{
	{"2 GiB random, to disk", []string{"fill", "2147483648", "random"}, false, false},
	{"2 GiB random, to tmpfs", []string{"fill", "2147483648", "random"}, true, false},
	{"2 GiB random, to disk, gap", []string{"fill", "2147483648", "random", "--gap"}, false, true},
	{"5,000 threads, to disk", []string{"threads", "5000", "--gap"}, false, true},
	{"60,000 mappings, to disk", []string{"mappings", "60000", "--gap"}, false, true},
}

// sample is one run of one tool. Times are in seconds, sizes in bytes.
type sample struct {
	total, gap        float64
	diskBytes, growth float64
	peak              float64
}

func TestMeasure(t *testing.T) {
	if !*run {
		t.Skip("run it with: make bench")
	}
	if *disk == "" {
		*disk = t.TempDir()
	}
	out := &bytes.Buffer{}
	header(t, out)
	for _, s := range scenarios {
		if strings.Contains(s.name, *only) {
			s.measure(t, out)
		}
	}
	if *only == "" {
		ceilings(t, out)
	}
	os.Stdout.Write(out.Bytes())
	if *write != "" {
		if err := os.WriteFile(*write, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func header(t *testing.T, out *bytes.Buffer) {
	fmt.Fprintf(out, "# Performance\n\nWritten by `make bench` on %s. Each tool took its turn on the same process and the\n"+
		"same disk, %d times; medians, and the best run in parentheses. The ratio is\n"+
		"procmem's median by gcore's median, then by gcore's best. Lower is better.\n"+
		"A total ends when the core is on the disk (each run is followed by `sync FILE`).\n"+
		"Growth is that of the target's own memory (RSS and page tables).\n\n"+
		"Machine: %s, %d processors, kernel %s, %s.\n",
		time.Now().UTC().Format("2006-01-02"), rounds, cpuName(), runtime.NumCPU(), kernel(), firstLine(t, "gdb", "--version"))
}

func (s scenario) measure(t *testing.T, out *bytes.Buffer) {
	p := testproc.Start(t, testproc.Many, s.args...)
	defer p.Kill()
	dir := *disk
	if s.tmp {
		dir = "/dev/shm"
	}
	prefix := filepath.Join(dir, fmt.Sprintf("bench-%d", os.Getpid()))
	file := fmt.Sprintf("%s.%d", prefix, p.PID())
	t.Cleanup(func() { os.Remove(file) })
	tools := []struct {
		name string
		args []string
	}{
		{"procmem", []string{*tool, "core", "-o", prefix, fmt.Sprint(p.PID())}},
		{"gcore", []string{"gcore", "-o", prefix, fmt.Sprint(p.PID())}},
	}
	samples := make([][]sample, len(tools))
	for round := range rounds + 1 { // the first one warms up
		for i, tl := range tools {
			os.Remove(file)
			unix.Sync()
			v := s.one(t, p, tl.args, file)
			if round > 0 {
				samples[i] = append(samples[i], v)
			}
		}
	}
	fmt.Fprintf(out, "\n## %s\n\n| | procmem | gcore | ratio | by gcore's best |\n| --- | --- | --- | --- | --- |\n", s.name)
	row := func(name, unit string, scale float64, get func(sample) float64) {
		a, b := column(samples[0], get), column(samples[1], get)
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", name, quote(a, scale, unit), quote(b, scale, unit),
			ratio(median(a), median(b)), ratio(median(a), b[0]))
	}
	if s.gap {
		row("longest gap in the target", "ms", 1e3, func(v sample) float64 { return v.gap })
	}
	row("total", "ms", 1e3, func(v sample) float64 { return v.total })
	row("on disk", "MiB", 1.0/(1<<20), func(v sample) float64 { return v.diskBytes })
	row("growth of the target", "MiB", 1.0/(1<<20), func(v sample) float64 { return v.growth })
	row("peak memory of the tool", "MiB", 1.0/(1<<20), func(v sample) float64 { return v.peak })
}

// one takes one core.
func (s scenario) one(t *testing.T, p *testproc.Proc, args []string, file string) sample {
	t.Helper()
	var v sample
	before := footprint(t, p.PID())
	if s.gap {
		p.Cmd(t, "gap reset")
	}
	cmd := exec.Command(args[0], args[1:]...)
	began := time.Now()
	msg, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, msg)
	}
	if err := exec.Command("sync", file).Run(); err != nil {
		t.Fatalf("sync %s: %v", file, err)
	}
	v.total = time.Since(began).Seconds()
	if s.gap {
		g := p.CmdInts(t, "gap")
		v.gap = float64(max(g[0], g[1])) / 1e9 // of the sleeping and the computing thread
	}
	v.growth = max(0, footprint(t, p.PID())-before)
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		t.Fatal(err)
	}
	v.diskBytes = float64(st.Blocks * 512)
	v.peak = float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) * 1024
	return v
}

// footprint is what a process takes of memory, page tables included.
func footprint(t *testing.T, pid int) float64 {
	t.Helper()
	p, err := process.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var sum float64
	for line := range strings.Lines(string(b)) {
		var kb float64
		for _, key := range []string{"VmRSS:", "VmPTE:"} {
			if n, _ := fmt.Sscanf(line, key+" %f kB", &kb); n == 1 {
				sum += kb * 1024
			}
		}
	}
	return sum
}

func column(samples []sample, get func(sample) float64) []float64 {
	var out []float64
	for _, v := range samples {
		out = append(out, get(v))
	}
	return sorted(out)
}

func sorted(v []float64) []float64 {
	slices.Sort(v)
	return v
}

// median takes sorted values.
func median(v []float64) float64 { return v[len(v)/2] }

func quote(v []float64, scale float64, unit string) string {
	return fmt.Sprintf("%s (%s) %s", number(median(v)*scale), number(v[0]*scale), unit)
}

func number(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func ratio(a, b float64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", a/b)
}

func cpuName() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "model name\t: "); ok {
			return strings.TrimSpace(name)
		}
	}
	return "unknown processor"
}

func kernel() string {
	var u unix.Utsname
	unix.Uname(&u)
	return unix.ByteSliceToString(u.Release[:])
}

func firstLine(t *testing.T, name string, args ...string) string {
	b, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}
