package process_test

import (
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"unsafe"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
)

// answer is what the example finds in memory.
var answer uint64 = 42

// Open a process, here this one itself, and read a variable of it whose
// address is known.
func ExampleOpen() {
	p, err := process.Open(os.Getpid())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	mem, err := p.View()
	if err != nil {
		log.Fatal(err)
	}
	defer mem.Close()

	addr := procmem.Addr(uintptr(unsafe.Pointer(&answer)))
	var word [8]byte
	if _, err := mem.ReadAt(word[:], addr); err != nil {
		log.Fatal(err)
	}
	fmt.Println(binary.LittleEndian.Uint64(word[:]))
	// Output: 42
}

// Walk the mappings of a process, and what there is in each.
func ExampleProcess_View() {
	p, err := process.Open(os.Getpid())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	mem, err := p.View()
	if err != nil {
		log.Fatal(err)
	}
	defer mem.Close()

	maps, err := mem.Mappings()
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range maps {
		if m.Path != "[stack]" {
			continue
		}
		var data uint64
		for r, err := range mem.Data(m.Range) { // what was never touched is left out
			if err != nil {
				log.Fatal(err)
			}
			data += r.Size()
		}
		fmt.Println(m.Path, m.Perm, data > 0 && data <= m.Size())
	}
	// Output: [stack] rw-p true
}
