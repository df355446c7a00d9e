package glimpse_test

import (
	"context"
	"fmt"
	"log"
	"os/exec"

	"github.com/procmem/procmem/glimpse"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/stacks"
	"github.com/procmem/procmem/symbols"
)

// Count the threads of a process, here a child, by what they are doing, while it goes on.
func Example() {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	p, err := process.Open(cmd.Process.Pid)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	t, err := glimpse.New(p, glimpse.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	g, err := t.Take(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	w, err := stacks.New(g.Memory, g.Image, stacks.Options{Open: symbols.OfProcess(p.PID(), g.Memory)})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	for _, s := range stacks.Group(w.All(context.Background())) {
		fmt.Println(len(s.TIDs), "thread,", len(s.Frames) > 0, "frames, held for milliseconds:", g.Pause > 0)
	}
	// Output:
	// 1 thread, true frames, held for milliseconds: true
}
