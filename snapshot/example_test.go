package snapshot_test

import (
	"context"
	"fmt"
	"log"
	"os/exec"

	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

// Hold a process, here a child, look at its threads and at its memory, and let
// it go on.
func ExampleTake() {
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

	s, err := snapshot.Take(context.Background(), p, snapshot.Options{Method: snapshot.MethodStop})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	img := s.Image()
	for i := range img.Threads {
		pc, sp, known := img.Arch.PC(&img.Threads[i])
		var word [8]byte
		_, err := s.ReadAt(word[:], sp)
		fmt.Println("thread", i+1, "registers:", known && pc != 0, "stack:", err)
	}
	pause, err := s.Release()
	fmt.Println("held:", pause > 0, err)

	stdin.Close()
	fmt.Println("ended:", cmd.Wait())
	// Output:
	// thread 1 registers: true stack: <nil>
	// held: true <nil>
	// ended: <nil>
}
