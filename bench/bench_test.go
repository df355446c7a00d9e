package bench

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	run    = flag.Bool("run-bench", false, "measure; takes a good part of an hour and wants a quiet machine")
	binary = flag.String("procmem", "", "the procmem to measure")
	write  = flag.String("write", "", "the file for the tables")
	disk   = flag.String("disk", "", "a folder on the disk to write to (default: the temporary folder)")
	only   = flag.String("only", "", "measure the cases that contain this text")

	// To try out the bench itself.
	rounds = flag.Int("rounds", 5, "how often each tool takes its turn")
	scale  = flag.Int("scale", 1, "divide the sizes of the targets by this")
)

// bench is one case, which stands for itself: it makes its own target.
type bench struct {
	name string
	run  func(t *testing.T, w io.Writer)
}

var benches = []bench{
	{"2 GiB random, to disk", copying{flags: []string{"oflag=direct"}, ofDD: 0.85, timesGcore: 2, best: true}.run},
	{"2 GiB random, to tmpfs", copying{dir: "/dev/shm", ofDD: 0.8, timesGcore: 1.5}.run},
	{"2 GiB, half zeros, quarter text, quarter random, compressed", compressed},
	{"8 GiB random, to disk", larger},
	{"Verify, 2 GiB random", verify},
	{"Pause: 2 GiB random, idle", many{"fill", 2 * gib, "random --gap"}.compare(goal{300, 4e-3})},
	{"Pause: 2 GiB random, a writer at 20,000 pages per second",
		many{"fill", 2 * gib, "random --gap --writer 20000"}.compare(goal{100, 12e-3})},
	{"Pause: 2 GiB random, a writer as fast as it can",
		many{"fill", 2 * gib, "random --gap --writer 0"}.compare(goal{20, 60e-3})},
	{"Pause: 8 GiB random, idle", eachGiB},
	{"Pause: 5,000 threads", many{"threads", 5000, "--gap"}.compare(goal{20, 0})},
	{"Pause: 60,000 mappings", many{"mappings", 60000, "--gap"}.compare(goal{20, 0})},
	{"Pause: Redis, 1 GiB, under redis-benchmark", redis},
	{"Pause: PostgreSQL, under pgbench", postgres},
	{"Pause: the methods, 2 GiB random, idle", many{"fill", 2 * gib, "random --gap"}.methods},
	{"Pause: the methods, 2 GiB random, a writer as fast as it can",
		many{"fill", 2 * gib, "random --gap --writer 0"}.methods},
	{"Search, 1 GiB, half text, half random", searching},
	{"Diff of two cores, 1 GiB, 1 % changed", diffing},
	// These two need memory themselves, and the peak of a program that was
	// started is never less than what the bench had.
	{"Random reads of a compressed core, 2 GiB", randomReads},
	{"Ceilings, 2 GiB", ceilings},
}

func TestMeasure(t *testing.T) {
	if !*run {
		t.Skip("run it with: make bench")
	}
	if *disk == "" {
		*disk = t.TempDir()
	}
	page := &bytes.Buffer{}
	header(t, page)
	for _, b := range benches {
		if !strings.Contains(b.name, *only) {
			continue
		}
		text := &bytes.Buffer{}
		fmt.Fprintf(text, "\n## %s\n\n", b.name)
		if !t.Run(b.name, func(t *testing.T) { b.run(t, text) }) {
			fmt.Fprint(text, "Failed.\n")
		}
		os.Stdout.Write(text.Bytes())
		page.Write(text.Bytes())
		// After each case: a run that is cut short keeps what it has.
		if *write != "" {
			if err := os.WriteFile(*write, page.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func header(t *testing.T, w io.Writer) {
	fmt.Fprintf(w, `# Performance

Written by `+"`make bench`"+` on %s. procmem runs with its default method, unless a table
says otherwise. Each tool took its turn on the same process and the same disk, %d times;
medians, and the best run in parentheses. The ratio is procmem's median by gcore's median,
then by gcore's best. Lower is better.

- A total ends when the core is on the disk (each run is followed by `+"`sync FILE`"+`).
- A speed is the memory that the target was given, by the total. The best speed is the
  highest, and higher ratios are better.
- A change is one of the target's own memory (RSS, page tables and swap), up or down.
- The peak memory of a tool is the most that one of its processes had in RAM.
- A gap is measured inside the target, from before a tool starts until it has ended. It is the
  longest time that a thread was away: one that sleeps for 1 ms at a time, or one that
  computes. Or it is the longest time that one write to memory took.
- `+"`pause_ms`"+` is what procmem reports: from when it asks the first thread to stop until it has
  let all of them go.
- A gap has more causes than the tool, because these threads share the processors with it. So
  two columns show the same target without a dump of it. In "no dump" nothing runs, for as long
  as procmem took before. In "dump of another" procmem takes the core of another process, which
  has as much memory and is idle.
- A goal for the longest gap is procmem's median against gcore's best. Other goals are about
  medians, unless they say "best", and about the target's memory in all runs.

Machine: %s, %d processors, kernel %s, transparent huge pages: %s, %s.
`, time.Now().UTC().Format("2006-01-02"), *rounds,
		cpuName(), runtime.NumCPU(), kernel(), hugePages(),
		firstLine(t, "gdb", "--version"))
	if *scale != 1 {
		fmt.Fprintf(w, "\nA trial: all sizes are divided by %d.\n", *scale)
	}
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

// hugePages returns the setting that is in brackets.
func hugePages() string {
	b, _ := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	_, rest, _ := strings.Cut(string(b), "[")
	setting, _, ok := strings.Cut(rest, "]")
	if !ok {
		return "none"
	}
	return setting
}

func firstLine(t *testing.T, name string, args ...string) string {
	b, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}
