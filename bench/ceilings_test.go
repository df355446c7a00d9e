package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/internal/testproc"
)

// ceilings measures what the machine can do at most, in the same run.
func ceilings(t *testing.T, w io.Writer) {
	const size = 2 << 30
	p := testproc.Start(t, testproc.Many, "fill", fmt.Sprint(size), "random")
	defer p.Kill()
	fill := p.Fill(t)
	fmt.Fprintf(w, "| | time | GB/s |\n| --- | --- | --- |\n")
	row := func(name string, f func()) {
		var v []float64
		for range *rounds {
			began := time.Now()
			f()
			v = append(v, time.Since(began).Seconds())
		}
		v = sorted(v)
		fmt.Fprintf(w, "| %s | %s | %.2f |\n", name, quote(v, 1e3, "ms"), size/median(v)/1e9)
	}
	row("process_vm_readv, one thread, blocks of 2 MiB", func() {
		buf := sys.Aligned(2 << 20)
		for off := uint64(0); off < size; off += uint64(len(buf)) {
			if _, err := sys.ReadProcess(p.PID(), buf, uint64(fill.Start)+off); err != nil {
				t.Fatal(err)
			}
		}
	})
	source := randomFile(t, size)
	target := filepath.Join(*disk, "dd")
	shm := source + "-copy"
	for _, f := range []string{target, shm} {
		t.Cleanup(func() { os.Remove(f) })
	}
	copied := func(args ...string) func() {
		return func() {
			os.Remove(target)
			os.Remove(shm)
			cmd := exec.Command("dd", append([]string{"bs=4M", "count=512", "status=none"}, args...)...)
			if msg, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("dd: %v\n%s", err, msg)
			}
		}
	}
	row("dd oflag=direct to disk", copied("if="+source, "of="+target, "oflag=direct", "conv=fsync"))
	row("dd to disk, through the page cache", copied("if="+source, "of="+target, "conv=fsync"))
	row("dd to tmpfs", copied("if="+source, "of="+shm))
}
