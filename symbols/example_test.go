package symbols_test

import (
	"fmt"
	"log"
	"os/exec"

	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/symbols"
)

// Find a function of a process, here a child, and name an address in it.
func Example() {
	cmd := exec.Command("cat") // waits for its input
	stdin, err := cmd.StdinPipe()
	if err != nil {
		log.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	// It has loaded its libraries when it answers.
	fmt.Fprintln(stdin, "ready")
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
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
	table := symbols.New(maps, symbols.OfProcess(p.PID(), mem))
	found := table.Find("getpid")
	fmt.Println(found[0].Name, table.Name(found[0].Start+2))
	stdin.Close()
	fmt.Println("ended:", cmd.Wait())
	// Output:
	// getpid getpid+0x2
	// ended: <nil>
}
