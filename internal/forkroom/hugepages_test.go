package forkroom

import (
	"testing"

	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// What pools of huge pages leave.
func TestHugeRoom(t *testing.T) {
	proc, err := process.Open(testproc.Start(t, testproc.Kids).PID())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	for _, c := range []struct {
		all, free, reserved string
		ok                  bool
	}{{"2", "2", "0", true}, {"2", "1", "0", true}, {"2", "0", "0", false}, {"3", "2", "2", false}, {"3", "2", "1", true}, {"", "", "", false}} {
		pools := tree(t, map[string]string{
			"hugepages-2048kB/nr_hugepages": c.all, "hugepages-2048kB/free_hugepages": c.free, "hugepages-2048kB/resv_hugepages": c.reserved,
			"hugepages-1048576kB/nr_hugepages": "0", "hugepages-1048576kB/free_hugepages": "0",
		})
		if c.all == "" {
			pools += "/none"
		}
		for _, need := range []uint64{0, 2 << 20} {
			if err := hugeRoom(proc, &Footprint{HugeUnreserved: need, Huge: need}, pools); (err == nil) != (c.ok || need == 0) {
				t.Errorf("%+v, need %d: %v", c, need, err)
			}
		}
	}
}
