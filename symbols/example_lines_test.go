package symbols_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path"
	"runtime"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/symbols"
)

// Functions and lines of an address of this process itself.
func ExampleTable_Lines() {
	p, err := process.Open(os.Getpid())
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	v, err := p.View()
	if err != nil {
		log.Fatal(err)
	}
	defer v.Close()
	ms, err := v.Mappings()
	if err != nil {
		log.Fatal(err)
	}
	lines := symbols.New(ms, symbols.OfProcess(os.Getpid(), v)).Lines(symbols.Debug{PID: os.Getpid()})
	defer lines.Close()
	pc, _, _, _ := runtime.Caller(0)
	for _, l := range lines.At(context.Background(), procmem.Addr(pc-1)) {
		fmt.Println(path.Base(l.Function), path.Base(l.File))
	}
	// Output: symbols_test.ExampleTable_Lines example_lines_test.go
}
