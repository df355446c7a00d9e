package search_test

import (
	"context"
	"fmt"
	"log"
	"os/exec"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/search"
	"github.com/procmem/procmem/symbols"
)

// Print each match of a regular expression in a live process, here a child, with the
// mapping and the symbol that it is in, and what could not be searched.
func Example() {
	cmd := exec.Command("cat") // waits for its input
	cmd.Env = []string{"SECRET=only for this example"}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	p, err := process.Open(cmd.Process.Pid)
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
	names := symbols.New(maps, symbols.OfProcess(p.PID(), mem))

	pattern, err := search.ParseRegexp(`SECRET=[a-z ]+`, false)
	if err != nil {
		log.Fatal(err)
	}
	s, err := search.New([]search.Pattern{pattern}, search.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range s.Matches(context.Background(), mem) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %q %s\n", m.Mapping.Path, names.Name(m.Start), m.Bytes)
	}
	for _, f := range s.Stats().Faults {
		// Nobody can read [vvar] and [vsyscall], which the kernel provides to each process.
		if m := &maps[procmem.FindMapping(maps, f.Start)]; !m.Special() {
			fmt.Println("not searched:", f)
		}
	}
	stdin.Close()
	fmt.Println("ended:", cmd.Wait())
	// Output:
	// [stack] "" SECRET=only for this example
	// ended: <nil>
}
