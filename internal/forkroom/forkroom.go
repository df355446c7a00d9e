// Package forkroom tells whether a process may be made to fork. Check tells whether its limits
// leave room for the fork, and for the copies of pages that follow. Waits tells whether the
// fork would wait for somebody.
//
// What could hurt a target, and what prevents it:
//   - The kernel ends it for want of memory: Check reads control groups of both versions, the
//     pools of huge pages, and what the machine has left. The process may still grow into that
//     room afterwards.
//   - All its threads are held by a fork that waits for one of them: Waits looks for
//     userfaultfds that report forks.
//
// The package only looks. It forks nothing and holds nobody.
package forkroom

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Footprint is what decides how much room a fork of a process takes.
type Footprint struct {
	Mappings         int
	Pages, HugePages uint64 // entries of page tables
	Private          uint64 // bytes whose pages the process's writes copy after a fork
	Huge             uint64 // the same, in pages of hugetlb
	HugeUnreserved   uint64 // bytes of Huge whose copies have no reserved pages
}

// Check returns why a process should not be made to fork, or nil. A limit that refuses the fork
// itself does no harm. But the memory that the process's writes copy after the fork is charged
// to it, too. If that does not fit, the kernel may end the target.
func Check(p *process.Process, x *Footprint) error {
	if err := hugeRoom(p, x, hugePools); err != nil {
		return err
	}
	f, err := p.Open("cgroup")
	if errors.Is(err, unix.ENOENT) { // a kernel without control groups
		return machineRoom(forkNeed(x, true))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return err
	}
	return forkFits(visibleCgroups(), string(text), x, p.MayWrite("oom_score_adj"))
}

// need is what a fork may take from the limits of a process, in bytes.
type need struct {
	tables uint64 // at once
	copies uint64 // until the copy ends, if the process writes all its memory
	// alone says that the kernel ends the copy before the process where memory runs out.
	alone bool
}

// What a fork needs beside the pages themselves, in bytes.
const (
	needEntry = 9        // of a page table for each page, with the tables above
	needTable = 2 * 4096 // for each huge page, which is split when it is written
	needVMA   = 400
	needSlack = 4 << 20 // what processors hold back in lists of their own
)

func forkNeed(x *Footprint, alone bool) need {
	return need{
		tables: x.Pages*needEntry + x.HugePages*needTable + uint64(x.Mappings)*needVMA + needSlack,
		copies: x.Private,
		alone:  alone,
	}
}

// bytes returns how much room there should be. If the kernel might not end the copy alone, the
// process must not come near its limit by itself either.
func (n need) bytes() uint64 {
	b := n.tables + n.copies
	if !n.alone {
		b *= 2
	}
	return b
}

// AddCopies finds out which memory a process gets copies of by writing after a fork: all
// private pages that exist. A mapping that is read-only now may be writable later.
func (x *Footprint) AddCopies(maps []procmem.Mapping) {
	for i := range maps {
		m := &maps[i]
		if m.Usage == nil || m.Shared() || m.Flags&(procmem.VMDontCopy|procmem.VMWipeOnFork) != 0 {
			continue
		}
		x.Private += m.Usage.Anonymous + m.Usage.Swap
		if x.Huge += m.Usage.HugeTLB; m.Flags&procmem.VMNoReserve != 0 {
			x.HugeUnreserved += m.Usage.HugeTLB
		}
	}
}

// forkFits returns an error that names the limit that a fork would exceed. text is
// /proc/PID/cgroup. first says that the copy can be made the first to end.
func forkFits(c *cgroups, text string, x *Footprint, first bool) error {
	pids, _ := c.of(text, "pids") // the fork itself finds out what cannot be seen
	for _, g := range pids {
		if err := g.processRoom(); err != nil {
			return err
		}
	}
	groups, hidden := c.of(text, "memory")
	if hidden != "" {
		return fmt.Errorf("the limits of its memory control group, %s, cannot be seen from here, and a copy might not fit in", hidden)
	}
	n := forkNeed(x, first)
	for _, g := range groups {
		n.alone = n.alone && g.endsOne()
	}
	for _, g := range groups {
		if err := g.memoryRoom(n); err != nil {
			return err
		}
	}
	return machineRoom(n)
}

// processRoom returns an error if a pids control group lacks room for another process, and for
// some that the target may make meanwhile.
func (g group) processRoom() error {
	limit, ok := g.number("pids.max")
	used, _ := g.number("pids.current")
	if spare := min(limit/16, 64); ok && used+spare >= limit {
		return fmt.Errorf("the pids control group of the process, %s, has room for %d more processes or threads, and %d should stay free",
			g.name, limit-min(limit, used), spare)
	}
	return nil
}

// endsOne reports whether the kernel ends a single process where a memory control group is
// full. In other groups it ends all, or ends none and all wait.
func (g group) endsOne() bool {
	all, _ := g.number("memory.oom.group")
	none := g.fields("memory.oom_control")["oom_kill_disable"]
	return all == 0 && none == 0
}

// memoryRoom returns an error that names the limit of a memory control group that a need
// exceeds.
func (g group) memoryRoom(n need) error {
	cache := g.cache()
	for _, l := range []struct {
		limit, used string
		need        uint64
	}{
		{"memory.max", "memory.current", n.bytes()},
		{"memory.high", "memory.current", n.bytes()}, // beyond which it is slowed down
		{"memory.limit_in_bytes", "memory.usage_in_bytes", n.bytes()},
		{"memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes", n.bytes()},
		{"memory.kmem.limit_in_bytes", "memory.kmem.usage_in_bytes", n.tables},
	} {
		limit, ok := g.number(l.limit)
		used, known := g.number(l.used)
		if !ok || !known {
			continue
		}
		if !strings.Contains(l.limit, "kmem") {
			used -= min(used, cache)
		}
		if free := limit - min(limit, used); free < l.need {
			return n.refuse(fmt.Sprintf("the memory control group of the process, %s (%s),", g.name, l.limit), free, l.need)
		}
	}
	return nil
}

// cache returns how much of a group's memory are pages of files that are as on the disk. The
// kernel takes those back before it ends a process. Swappable memory does not count, because
// swapping would slow the process down.
func (g group) cache() uint64 {
	stat := g.fields("memory.stat")
	of := func(names ...string) (n uint64) {
		for _, name := range names {
			if v, ok := stat["total_"+name]; ok { // version 1, with the groups below
				n += v
			} else {
				n += stat[name]
			}
		}
		return n
	}
	files := of("active_file", "inactive_file")
	return files - min(files, of("dirty", "writeback", "file_dirty", "file_writeback"))
}

// machineRoom returns an error if a need exceeds the memory of the machine.
func machineRoom(n need) error {
	if free, known := sys.AvailableMemory(); known && free < n.bytes() {
		return n.refuse("the machine", free, n.bytes())
	}
	return nil
}

func (n need) refuse(who string, free, bytes uint64) error {
	why := "if all is written meanwhile"
	if !n.alone {
		why += "; that is doubled, since the kernel might not end the copy alone where memory runs out"
	}
	return fmt.Errorf("%s has %d MiB left, and a fork may take %d MiB (%s)", who, free>>20, (bytes+1<<20-1)>>20, why)
}
