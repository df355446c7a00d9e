package forkroom

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/procmem/procmem/process"
)

// hugePools is where the kernel describes its pools of huge pages
// (Documentation/admin-guide/mm/hugetlbpage.rst).
const hugePools = "/sys/kernel/mm/hugepages"

// hugeRoom returns an error if the pool has no pages left for copies of huge pages that are
// written after a fork. For pages that the process has reserved, the kernel takes them from the
// child. For others it sends SIGBUS. Forks of a process do not inherit its reservations.
func hugeRoom(p *process.Process, x *Footprint, pools string) error {
	need := x.HugeUnreserved
	if st, err := p.Stat(); err != nil || st.Forked() {
		need = x.Huge
	}
	if need == 0 {
		return nil
	}
	// The size of the pages is not known, so the least room counts.
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
