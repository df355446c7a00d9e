package testproc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Traces are what system calls in a target could leave behind.
type Traces struct {
	Children, FDs, Watched string
	Tracers                int // threads that have one
}

// TracesOf returns those that there are now.
func TracesOf(t testing.TB, pid int) (w Traces) {
	t.Helper()
	for _, tid := range tidsOf(pid) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, tid))
		w.Children += string(b)
		st, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
		if bytes.Contains(st, []byte("TracerPid:")) && !bytes.Contains(st, []byte("TracerPid:\t0\n")) {
			w.Tracers++
		}
	}
	list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, path := range list {
		link, _ := os.Readlink(path)
		w.FDs += filepath.Base(path) + " " + link + "\n"
	}
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mapping := ""
	for line := range strings.Lines(string(smaps)) {
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); !ok {
			if first, _, _ := strings.Cut(line, " "); strings.Contains(first, "-") {
				mapping = first
			}
		} else if strings.Contains(flags, " uw") || strings.Contains(flags, " um") {
			w.Watched += mapping + "\n"
		}
	}
	return w
}

func tidsOf(pid int) (out []int) {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, e := range list {
		tid, _ := strconv.Atoi(e.Name())
		out = append(out, tid)
	}
	return out
}

// UntouchedSince requires that nothing was left in a target, and waits for that: who undoes it
// may outlive the one who asked for it.
func UntouchedSince(t testing.TB, pid int, before Traces) {
	t.Helper()
	var now Traces
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now = TracesOf(t, pid); now == before {
			return
		}
	}
	t.Fatalf("left in the target: %+v; before: %+v", now, before)
}
