package procmem_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os/exec"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/search"
)

// Take a core of a process, here a child, write it compressed, open it again, and search it.
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
	ctx := context.Background()

	p, err := process.Open(cmd.Process.Pid)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	var out bytes.Buffer
	if _, err := capture.ToWriter(ctx, p, &out, capture.Options{Compress: capture.Zstd}); err != nil {
		log.Fatal(err)
	}
	stdin.Close()
	fmt.Println("ended:", cmd.Wait())

	c, err := core.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	secret, err := search.ParseRegexp(`SECRET=[a-z ]+`, false)
	if err != nil {
		log.Fatal(err)
	}
	s, err := search.New([]search.Pattern{secret}, search.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range s.Matches(ctx, c) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s\n", m.Mapping.Path, m.Bytes)
	}
	// Output:
	// ended: <nil>
	// [stack] SECRET=only for this example
}

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
