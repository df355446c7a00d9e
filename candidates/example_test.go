package candidates_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/candidates"
	"github.com/procmem/procmem/search"
)

// page is a memory of one page. That of a process is procmem/process.View.
type page [procmem.PageSize]byte

const start procmem.Addr = 0x10000

func (p *page) Mappings() ([]procmem.Mapping, error) {
	return []procmem.Mapping{{Range: procmem.Range{Start: start, End: start + procmem.PageSize}}}, nil
}

func (p *page) ReadAt(b []byte, a procmem.Addr) (int, error) { return copy(b, p[a-start:]), nil }

// Find the number that has grown, out of all that there are, and is from 1 to 100 now.
func Example() {
	ctx, mem := context.Background(), &page{}
	info := candidates.Info{Type: search.U32, Align: 4, Word: 8}
	var file bytes.Buffer
	w, err := candidates.NewWriter(&file, info)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := candidates.EveryPosition(ctx, mem, search.Options{}, w); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(w.Count(), "candidates")

	binary.LittleEndian.PutUint32(mem[0x120:], 42)   // meanwhile
	binary.LittleEndian.PutUint32(mem[0x480:], 4200) // too much

	r, err := candidates.Open(&file)
	if err != nil {
		log.Fatal(err)
	}
	value, err := search.ParseValue(info.Type, "1..100", info.Options())
	if err != nil {
		log.Fatal(err)
	}
	kept, err := candidates.Narrow(ctx, mem, r, candidates.Narrowing{
		Change: candidates.Increased,
		Value:  value.Holds,
		Each: func(c candidates.Candidate) bool {
			fmt.Println(c.Addr, binary.LittleEndian.Uint32(c.Value), "->", binary.LittleEndian.Uint32(c.Now))
			return true
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(kept.Kept, "of", kept.Before)
	// Output:
	// 1024 candidates
	// 0x10120 0 -> 42
	// 1 of 1024
}
