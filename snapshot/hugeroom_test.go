package snapshot

import (
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// A process that writes to a huge page after a fork needs another, and gets
// SIGBUS where there is none.
func TestForkHugeUnreserved(t *testing.T) {
	testproc.HugePages(t, 1)
	p := testproc.Start(t, testproc.Kids, "--ballast", "1M")
	if _, err := p.TryCmd(t, "huge"); err != nil {
		t.Fatal(err)
	}
	s, err := Take(t.Context(), open(t, p), Options{Method: MethodFork})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "2 MiB of private huge pages without a reservation") {
		t.Errorf("%v", err)
	}
	s = takeBy(t, p, MethodAuto, Options{})
	p.Cmd(t, "huge")
	s.Close()
	p.Cmd(t, "huge")
}

// What pools of huge pages leave.
func TestHugeRoom(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
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
			if err := hugeRoom(open(t, p), &footprint{hugeUnreserved: need, huge: need}, pools); (err == nil) != (c.ok || need == 0) {
				t.Errorf("%+v, need %d: %v", c, need, err)
			}
		}
	}
}
