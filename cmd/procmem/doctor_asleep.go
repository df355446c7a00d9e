package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/access"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/process"
)

// asleepThread is a thread in state D.
type asleepThread struct {
	TID  int    `json:"tid"`
	Call string `json:"call"` // the system call that it is in; "" where there is none
}

// asleep returns threads that were in state D, in the same place, at two looks.
func asleep(p *process.Process, arch procmem.Arch) []asleepThread {
	look := func() map[int]uint64 {
		out := make(map[int]uint64)
		tids, _ := p.Threads()
		for _, tid := range tids {
			if st, err := p.ThreadStat(tid); err == nil && st.State == 'D' {
				out[tid], _ = p.ThreadRuns(tid)
			}
		}
		return out
	}
	out := []asleepThread{}
	first := look()
	if len(first) == 0 {
		return out
	}
	time.Sleep(asleepLooks)
	for tid, runs := range look() {
		if before, ok := first[tid]; !ok || before != runs {
			continue
		}
		t := asleepThread{TID: tid}
		if call, err := p.ThreadSyscall(tid); err == nil && !call.Running && call.Number >= 0 {
			t.Call = ptracer.CallName(arch, call.Number)
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b asleepThread) int { return a.TID - b.TID })
	return out
}

// asleepLooks is the time between the looks. Waits for a page or a lock are shorter.
const asleepLooks = 5 * time.Millisecond

// text describes the thread.
func (t asleepThread) text() string {
	if t.Call == "" {
		return strconv.Itoa(t.TID)
	}
	return fmt.Sprintf("%d (in %s)", t.TID, t.Call)
}

// asleepRule tells of threads that would not stop.
func asleepRule(threads []asleepThread) access.Rule {
	const name = "state D"
	n := len(threads)
	if n == 0 {
		return access.Rule{Name: name, Verdict: access.Holds, Detail: "no thread waits in the kernel where it cannot be stopped"}
	}
	var some []string
	for _, t := range threads[:min(n, mostLines)] {
		some = append(some, t.text())
	}
	if n > mostLines {
		some = append(some, fmt.Sprintf("and %d more", n-mostLines))
	}
	return access.Rule{Name: name, Verdict: access.Limited, Detail: fmt.Sprintf("%s cannot be stopped and is not waited for: of its registers pc, sp and arguments would be known: %s",
		count(n, "thread"), strings.Join(some, ", "))}
}
