package stacks_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os/exec"
	"slices"

	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/stacks"
	"github.com/procmem/procmem/symbols"
)

// Print where the threads of a process, here a child, hang, from a core of it.
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
	var file bytes.Buffer
	ctx := context.Background()
	if _, err := capture.ToWriter(ctx, p, &file, capture.Options{}); err != nil {
		log.Fatal(err)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		log.Fatal(err)
	}

	c, err := core.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	w, err := stacks.New(c, c.Image(), stacks.Options{Open: symbols.OfCore(c)})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	for _, g := range stacks.Group(w.All(ctx)) {
		fmt.Println("threads:", len(g.TIDs))
		if g.Stop != nil {
			fmt.Println("the stack goes on:", g.Stop)
		}
		var functions []string
		for _, f := range g.Frames {
			for _, p := range w.Places(ctx, f) {
				functions = append(functions, p.Function)
			}
		}
		fmt.Println("reads:", functions[0] == "read", "started by the C library:", slices.Contains(functions, "__libc_start_main"))
	}
	// Output:
	// threads: 1
	// reads: true started by the C library: true
}
