package capture_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/search"
)

// Take a compressed core of a process, here a child, to a writer; open it again, and
// search it.
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

	var out bytes.Buffer
	r, err := capture.ToWriter(context.Background(), p, &out, capture.Options{Compress: capture.Zstd})
	if err != nil {
		log.Fatal(err)
	}
	stdin.Close()
	fmt.Println("consistent:", r.Consistent, "ended:", cmd.Wait())

	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "core.zst")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		log.Fatal(err)
	}
	c, err := core.Open(path)
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
	for m, err := range s.Matches(context.Background(), c) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", m.Bytes)
		break
	}
	// Output:
	// consistent: true ended: <nil>
	// SECRET=only for this example
}
