package access_test

import (
	"errors"
	"fmt"

	"github.com/procmem/procmem/access"
	"github.com/procmem/procmem/process"
)

// Tell why a process cannot be opened.
func ExampleExplain() {
	const pid = 1 << 30 // above all that there can be
	_, err := process.Open(pid)
	fmt.Println(errors.Is(err, process.ErrNoProcess))
	why, known := access.Explain(pid, err)
	fmt.Println(why != "", known)
	// Output:
	// true
	// true true
}
