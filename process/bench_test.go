package process

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/internal/testproc"
)

// A running process of 1 GiB is read by process_vm_readv(2) alone, and by a view, with as many
// threads and blocks of the same size.
func BenchmarkRead(b *testing.B) {
	const size = 1 << 30
	p := testproc.Start(b, testproc.Many, "fill", fmt.Sprint(size), "random")
	r := p.Fill(b).Range
	v := view(b, p)
	ways := []struct {
		name string
		read func(p []byte, a procmem.Addr) (int, error)
	}{
		{"raw", func(b []byte, a procmem.Addr) (int, error) { return sys.ReadProcess(p.PID(), b, uint64(a)) }},
		{"view", v.ReadAt},
	}
	for block := 256 << 10; block <= 2<<20; block *= 2 {
		for threads := 1; threads <= 2; threads++ {
			for _, way := range ways {
				b.Run(fmt.Sprintf("%dK/%d/%s", block>>10, threads, way.name), func(b *testing.B) {
					b.SetBytes(size)
					for b.Loop() {
						inBlocks(b, r, block, threads, way.read)
					}
				})
			}
		}
	}
}

// inBlocks reads all of r.
func inBlocks(b *testing.B, r procmem.Range, block, threads int, read func([]byte, procmem.Addr) (int, error)) {
	var next atomic.Uint64
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			buf := sys.Aligned(block)
			for {
				a := r.Start + procmem.Addr(next.Add(uint64(block))-uint64(block))
				if a >= r.End {
					return
				}
				if n, err := read(buf, a); n != block {
					b.Errorf("%v: %d, %v", a, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
