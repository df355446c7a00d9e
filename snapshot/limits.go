package snapshot

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/procmem/procmem/process"
)

// canFork tells why a process should not be made to fork: the limits of its
// control groups leave no room for a copy of its page tables, or for a
// process. Where memory runs out in the middle of a fork the kernel may choose
// the target as the one to end. What limits cannot be seen the fork itself
// finds out.
func canFork(p *process.Process, x *extent) error {
	const entry, vma, slack = 8, 400, 2 << 20 // bytes
	need := x.pages*entry*11/10 + uint64(x.mappings)*vma + slack
	for _, g := range groups(p) {
		if g.pids {
			if free, ok := g.room("pids.max", "pids.current", ""); ok && free < 1 {
				return fmt.Errorf("the pids control group of the process, %s, is full", g.name)
			}
			continue
		}
		free, ok := g.room("memory.max", "memory.current", "inactive_file")
		if !ok {
			free, ok = g.room("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
		}
		if ok && free < need {
			return fmt.Errorf("the memory control group of the process, %s, has %d MiB left, and a fork may need %d MiB",
				g.name, free>>20, need>>20)
		}
	}
	return nil
}

// group is a control group that limits a process.
type group struct {
	name string // as in /proc/PID/cgroup
	dir  string
	pids bool // it may limit processes, else memory
}

// groups returns those of a process with all that they are in, as far as they
// can be seen.
func groups(p *process.Process) (out []group) {
	f, err := p.Open("cgroup")
	if err != nil {
		return nil
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// 4:memory:/path, or 0::/path for version 2
		_, rest, _ := strings.Cut(sc.Text(), ":")
		controller, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		for dir := path; ; dir = filepath.Dir(dir) {
			switch controller {
			case "memory", "pids":
				out = append(out, group{dir, filepath.Join("/sys/fs/cgroup", controller, dir), controller == "pids"})
			case "":
				for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
					out = append(out, group{dir, filepath.Join(root, dir), true}, group{dir, filepath.Join(root, dir), false})
				}
			}
			if dir == "/" || dir == "." {
				break
			}
		}
	}
	return out
}

// room returns how much of a limit is left, with what the kernel would take
// back first. ok is false where there is no limit, or it cannot be seen.
func (g group) room(limit, used, reclaimable string) (free uint64, ok bool) {
	max, ok := g.number(limit)
	if !ok {
		return 0, false
	}
	current, ok := g.number(used)
	if !ok {
		return 0, false
	}
	if reclaimable != "" {
		current -= min(current, g.stat(reclaimable))
	}
	return max - min(max, current), true
}

func (g group) number(file string) (uint64, bool) {
	b, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil // "max" is none
}

// stat returns a field of memory.stat.
func (g group) stat(field string) uint64 {
	b, err := os.ReadFile(filepath.Join(g.dir, "memory.stat"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == field {
			n, _ := strconv.ParseUint(value, 10, 64)
			return n
		}
	}
	return 0
}
