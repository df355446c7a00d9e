package target_test

import (
	"fmt"
	"log"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/target"
)

// Read the first word of the stack of this process, by the words of the command line.
func Example() {
	t, err := target.Open("self")
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	mem, done, err := t.Memory()
	if err != nil {
		log.Fatal(err)
	}
	defer done()
	maps, err := mem.Mappings()
	if err != nil {
		log.Fatal(err)
	}
	spec, err := target.ParseRange("[stack]+0+8")
	if err != nil {
		log.Fatal(err)
	}
	ranges, err := spec.Resolve(maps)
	if err != nil {
		log.Fatal(err)
	}
	faults, err := procmem.ReadFull(mem, ranges[0], make([]byte, 8), func(_ procmem.Addr, p []byte) error {
		fmt.Println(len(p), "bytes")
		return nil
	})
	fmt.Println(len(faults), err)
	// Output:
	// 8 bytes
	// 0 <nil>
}
