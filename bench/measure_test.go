package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// subject is a process to take cores of.
type subject struct {
	pid  int
	twin int    // a process like it to dump in its place, or 0
	dir  string // where the cores are written to
	size int    // of its memory where speeds are to be told, or 0

	// meter measures in the subject while during runs. It may be nil.
	meter func(t *testing.T, during func()) values
}

// tool takes cores. Its arguments are followed by -o PREFIX PID.
type tool struct {
	name   string
	args   []string // none: it only lets time pass
	then   []string // compresses the core; is followed by CORE -o CORE and suffix
	suffix string   // what the name of the file ends in, behind the pid
	json   bool     // it prints a core.Report
	other  bool     // it dumps the twin
	copies bool     // it does no dump: its arguments are followed by of=FILE
}

func procmem() tool {
	return tool{name: "procmem", args: []string{*binary, "core", "--json"}, json: true}
}

// byMethod is procmem with another method than its default.
func byMethod(name string) tool {
	return tool{name: name, args: append(procmem().args, "--method", name), json: true}
}

func procmemOfTwin() tool {
	return tool{name: "dump of another", args: procmem().args, other: true}
}

// compressing is procmem, which compresses.
func compressing() tool {
	return tool{name: "procmem", args: append(procmem().args, "--compress", "zstd"), suffix: ".zst", json: true}
}

// dd copies a file in the place of a dump.
func dd(source string, flags ...string) tool {
	return tool{name: strings.Join(append([]string{"dd"}, flags...), " "),
		args: append([]string{"dd", "bs=4M", "if=" + source}, flags...), copies: true}
}

var (
	gcore   = tool{name: "gcore", args: []string{"gcore"}}
	nothing = tool{name: "no dump"}

	gcoreAndZstd = tool{name: "gcore, zstd -1 -T0", args: gcore.args, then: []string{"zstd", "-1", "-T0", "-q"}, suffix: ".zst"}
)

// commands returns what takes a core into core and suffix, which is PREFIX.PID.
func (tl tool) commands(prefix, core string, pid int) [][]string {
	switch {
	case len(tl.args) == 0:
		return nil
	case tl.copies:
		return [][]string{append(slices.Clone(tl.args), "of="+core)}
	}
	all := [][]string{append(slices.Clone(tl.args), "-o", prefix, fmt.Sprint(pid))}
	if tl.then != nil {
		all = append(all, append(slices.Clone(tl.then), core, "-o", core+tl.suffix))
	}
	return all
}

// What is measured: the keys of values and the names of rows.
const (
	sleeping  = "gap, sleeping thread"
	computing = "gap, computing thread"
	writing   = "gap, writing thread"
	longest   = "longest gap in the target"
	latency   = "highest latency of a client"
	pause     = "`pause_ms`"
	unseen    = "longest gap less `pause_ms`"
	copies    = "rounds before the pause"
	total     = "total"
	speed     = "speed"
	onDisk    = "on disk"
	change    = "change of the target"
	peak      = "peak memory of the tool"
	reads     = "reads"
	perRead   = "read from the file for each"
)

// values has times in seconds and sizes in bytes.
type values map[string]float64

// sample is one run of one tool.
type sample struct {
	values
	report *report // of procmem
}

// report is what procmem core --json prints, as far as it is quoted; see
// docs/json.md.
type report struct {
	Method             string  `json:"method"`
	Why                string  `json:"why"`
	Rounds             int     `json:"rounds"`
	Consistent         bool    `json:"consistent"`
	InconsistentReason string  `json:"inconsistent_reason"`
	PauseMS            float64 `json:"pause_ms"`
}

// column is what one tool did.
type column struct {
	name    string
	samples []sample
}

// measure gives each tool its turns. Where nothing is to be done, it takes as
// long as the first tool took before.
func (s subject) measure(t *testing.T, tools ...tool) []column {
	columns := make([]column, len(tools))
	var first time.Duration
	for round := range *rounds + 1 { // the first one warms up
		for i, tl := range tools {
			v, took := s.one(t, tl, first)
			if i == 0 {
				first = took
			}
			columns[i].name = tl.name
			if round > 0 {
				columns[i].samples = append(columns[i].samples, v)
			}
		}
	}
	return columns
}

// one runs a tool once, and also returns how long that took.
func (s subject) one(t *testing.T, tl tool, wait time.Duration) (v sample, took time.Duration) {
	t.Helper()
	pid := s.pid
	if tl.other {
		pid = s.twin
	}
	prefix := filepath.Join(s.dir, fmt.Sprintf("bench-%d", os.Getpid()))
	core := fmt.Sprintf("%s.%d", prefix, pid)
	file := core + tl.suffix
	defer os.Remove(core)
	defer os.Remove(file)
	unix.Sync()

	var stdout, stderr bytes.Buffer
	commands := tl.commands(prefix, core, pid)
	dump := func() {
		began := time.Now()
		defer func() { took = time.Since(began) }()
		if len(commands) == 0 {
			time.Sleep(wait)
		}
		for _, args := range commands {
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %v\n%s%s", cmd.Args, err, &stdout, &stderr)
			}
			v.values[peak] = max(v.values[peak], maxRSS(cmd))
		}
	}
	before := footprint(t, s.pid)
	v.values = values{}
	if s.meter == nil {
		dump()
	} else {
		maps.Copy(v.values, s.meter(t, dump))
	}
	if len(commands) == 0 || tl.other { // what is measured in the subject is all that there is
		delete(v.values, peak)
		return v, took
	}

	began := time.Now()
	if msg, err := exec.Command("sync", file).CombinedOutput(); err != nil {
		t.Fatalf("sync %s: %v\n%s", file, err, msg)
	}
	v.values[total] = (took + time.Since(began)).Seconds()
	if s.size != 0 {
		v.values[speed] = float64(s.size) / v.values[total]
	}
	if !tl.copies {
		v.values[change] = math.Abs(footprint(t, s.pid) - before)
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		t.Fatal(err)
	}
	v.values[onDisk] = float64(st.Blocks * 512)
	if tl.json {
		v.report = &report{}
		if err := json.Unmarshal(stdout.Bytes(), v.report); err != nil {
			t.Fatalf("%v printed %q: %v", commands[0], &stdout, err)
		}
		v.values[pause] = v.report.PauseMS / 1e3
		if v.report.Rounds > 0 {
			v.values[copies] = float64(v.report.Rounds)
		}
		if gap, ok := v.values[longest]; ok {
			v.values[unseen] = gap - v.values[pause]
		}
	}
	return v, took
}

// maxRSS is the most memory that a command had, which has ended.
func maxRSS(cmd *exec.Cmd) float64 {
	return float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) * 1024
}

// footprint is what a process takes of memory and swap, page tables included.
func footprint(t *testing.T, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return field(string(b), "VmRSS:") + field(string(b), "VmPTE:") + field(string(b), "VmSwap:")
}

// field returns the bytes of a line such as "VmRSS: 12 kB".
func field(text, key string) float64 {
	var kb float64
	for line := range strings.Lines(text) {
		if n, _ := fmt.Sscanf(line, key+" %f kB", &kb); n == 1 {
			break
		}
	}
	return kb * 1024
}
