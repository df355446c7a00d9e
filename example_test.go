package procmem_test

import (
	"fmt"
	"log"

	"github.com/procmem/procmem"
)

// Parse a line of /proc/PID/maps, and find the page of an address in it.
func ExampleParseMapping() {
	m, err := procmem.ParseMapping([]byte("7f1200000000-7f1200021000 rw-p 00000000 00:00 0 [heap]"))
	if err != nil {
		log.Fatal(err)
	}
	a, err := procmem.ParseAddr("0x7f1200001234")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.Path, m.Perm, m.Size(), m.Contains(a), a.PageDown())
	// Output:
	// [heap] rw-p 135168 true 0x7f1200001000
}
