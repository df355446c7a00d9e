package capture_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os/exec"

	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/process"
)

// Take a compressed core of a process, here a child, to a writer, and open it again.
func Example() {
	cmd := exec.Command("cat") // waits for its input
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

	c, err := core.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println("of the same process:", c.Image().Process.PID == p.PID())
	// Output:
	// consistent: true ended: <nil>
	// of the same process: true
}
