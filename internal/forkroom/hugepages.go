package forkroom

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/procmem/procmem/process"
)

// hugePools is where the kernel tells of its pools of huge pages
// (Documentation/admin-guide/mm/hugetlbpage.rst).
const hugePools = "/sys/kernel/mm/hugepages"

// hugeRoom tells that huge pages might be written after a fork for whose copies
// the pool has none left. For those that the process has reserved, the kernel
// takes them from the child; where there are others, it sends SIGBUS. What a
// process has reserved its own forks have not.
func hugeRoom(p *process.Process, x *Footprint, pools string) error {
	need := x.HugeUnreserved
	if st, err := p.Stat(); err != nil || st.Forked() {
		need = x.Huge
	}
	if need == 0 {
		return nil
	}
	// Of which size they are is not known: the least room counts.
	free := ^uint64(0)
	sizes, _ := filepath.Glob(pools + "/hugepages-*kB")
	for _, dir := range sizes {
		kb, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(dir)[len("hugepages-"):], "kB"), 10, 64)
		if all := poolNumber(dir, "nr_hugepages"); err == nil && all > 0 {
			have := poolNumber(dir, "free_hugepages")
			free = min(free, (have-min(have, poolNumber(dir, "resv_hugepages")))*kb<<10)
		}
	}
	if len(sizes) > 0 && free >= need {
		return nil
	}
	return fmt.Errorf("it has %d MiB of private huge pages without a reservation, and there are no free ones for the copies of them that it may need after a fork", need>>20)
}

func poolNumber(dir, name string) uint64 {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n
}
