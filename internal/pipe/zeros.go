package pipe

import (
	"context"
	"sync/atomic"

	"github.com/procmem/procmem"
)

// CountZeros returns how many bytes of pages of zeros a memory has where there may be data.
// What is swapped out is not read, which would bring it back.
func CountZeros(ctx context.Context, mem procmem.Sparse, ranges []procmem.Range) (uint64, error) {
	data := mem.Data
	if m, ok := mem.(procmem.Resident); ok {
		data = m.Resident
	}
	var n atomic.Uint64
	_, err := New().Run(ctx, mem, func(yield func(Extent) bool) {
		for _, r := range ranges {
			for d, err := range data(r) {
				if !yield(Extent{Range: d, Err: err}) {
					return
				}
			}
		}
	}, Work{Each: func(b *Block) error {
		for _, p := range b.Pieces {
			left := len(p.Bytes)
			for d := range p.Data() {
				left -= len(d.Bytes)
			}
			n.Add(uint64(left))
		}
		return nil
	}})
	return n.Load(), err
}
