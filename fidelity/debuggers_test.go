package fidelity

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// gdb runs gdb on a core with commands, and returns what it prints on stdout
// without warnings: those about the size of .reg-xstate come with every core
// but gdb's own where the processor has AVX-512 and is not from Intel
// (docs/consumers.md).
func gdb(t testing.TB, exe, path string, commands ...string) string {
	t.Helper()
	args := []string{"-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "set width 0"}
	for _, c := range commands {
		args = append(args, "-ex", c)
	}
	var keep strings.Builder
	for line := range strings.Lines(run(t, "gdb", append(args, exe, path)...).ok(t)) {
		if !strings.HasPrefix(line, "warning: ") {
			keep.WriteString(line)
		}
	}
	return keep.String()
}

// sections cuts text at the lines that match head, whose first group is the
// number of a thread, and returns what follows each, without empty lines.
func sections(t testing.TB, text string, head *regexp.Regexp) map[int]string {
	t.Helper()
	found := map[int]string{}
	tid := 0
	for line := range strings.Lines(text) {
		if m := head.FindStringSubmatch(line); m != nil {
			var err error
			if tid, err = strconv.Atoi(m[1]); err != nil {
				t.Fatal(err)
			}
			if _, again := found[tid]; again {
				t.Errorf("thread %d is shown twice", tid)
			}
			found[tid] = ""
		} else if tid != 0 && strings.TrimSpace(line) != "" {
			found[tid] += line
		}
	}
	for tid, frames := range found {
		if !strings.HasPrefix(frames, "#0 ") {
			t.Errorf("thread %d has no frames: %q", tid, frames)
		}
	}
	return found
}

var (
	// The number that gdb gives a thread depends on the order of the notes,
	// which is not the same.
	gdbHead = regexp.MustCompile(`^Thread \d+ \(.*?(?:LWP|process) (\d+)\)+:`)
	euHead  = regexp.MustCompile(`^TID (\d+):`)
)

// gdbThreads returns the backtrace of each thread.
func gdbThreads(t testing.TB, exe, path string) map[int]string {
	t.Helper()
	return sections(t, gdb(t, exe, path, "thread apply all bt"), gdbHead)
}

// euStack returns the backtrace of each thread by elfutils. Its status is
// that of the last frame, where many a stack cannot be unwound to its end.
func euStack(t testing.TB, path string) map[int]string {
	t.Helper()
	return sections(t, run(t, "eu-stack", "--core", path).stdout, euHead)
}

// modules returns what elfutils takes for the modules of a core.
func modules(t testing.TB, path string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(run(t, "eu-unstrip", "-n", "--core", path).ok(t)), "\n")
	slices.Sort(lines)
	return lines
}

var (
	lldbThread = regexp.MustCompile(`^[* ] thread #(\d+)(?:: tid = (\d+), 0x)?`)
	lldbFrame  = regexp.MustCompile(`^[* ]+frame #0: 0x`)
)

// lldbThreads returns the threads of which lldb shows frames, ascending.
func lldbThreads(t testing.TB, exe, path string) []int {
	t.Helper()
	out := lldb(t, "-b", "-o", "thread list", "-o", "bt all", "-c", path, exe)
	ids := map[string]int{} // by lldb's number
	var tids []int
	number := "" // of the thread whose line was the last one
	for line := range strings.Lines(out) {
		if m := lldbThread.FindStringSubmatch(line); m != nil {
			number = m[1]
			if m[2] != "" {
				ids[number], _ = strconv.Atoi(m[2])
			}
			continue
		}
		if number != "" && lldbFrame.MatchString(line) {
			tids = append(tids, ids[number])
		}
		number = ""
	}
	slices.Sort(tids)
	return tids
}

// checkReadelf has both readelf parse the headers and notes of a core, which
// must not make them say a word about errors.
func (c *corefile) checkReadelf(t *testing.T, threads int) {
	t.Helper()
	for _, args := range [][]string{
		{"readelf", "-W", "-h", "-l", "-n", c.path},
		{"eu-readelf", "-h", "-l", "-n", c.path},
	} {
		out := run(t, args[0], args[1:]...)
		if out.status != 0 || out.stderr != "" {
			t.Errorf("%v: status %d, stderr %q", args, out.status, out.stderr)
		}
		notes := 0
		for line := range strings.Lines(out.stdout) {
			if strings.Contains(line, "PRSTATUS") && strings.HasPrefix(strings.TrimSpace(line), "CORE ") {
				notes++
			}
			if complains(line) && !ownNote.MatchString(line) {
				t.Errorf("%v says %q", args, line)
			}
		}
		if notes != threads {
			t.Errorf("%v shows %d PRSTATUS notes, want %d", args, notes, threads)
		}
	}
}

// complains looks for words and not for a pattern: with thousands of threads,
// readelf prints many megabytes.
func complains(line string) bool {
	for _, word := range [...]string{"arning", "rror:", "<unknown>", "nvalid", "orrupt"} {
		if strings.Contains(line, word) {
			return true
		}
	}
	return false
}

// elfutils 0.188 does not know the notes of procmem, nor
// NT_X86_XSAVE_LAYOUT, which is as new as Linux 6.12, and says no more.
var ownNote = regexp.MustCompile(`^  (procmem +\d+  <unknown>: \d+|LINUX +\d+  <unknown>: 517)\n$`)
