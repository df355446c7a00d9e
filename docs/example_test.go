package docs_test

import (
	"fmt"
	"strings"

	"github.com/procmem/procmem/docs"
)

// The contract of --json has a section for each command.
func Example() {
	title, _, _ := strings.Cut(docs.JSON, "\n")
	fmt.Println(title)
	fmt.Println(strings.Contains(docs.JSON, "\n## maps\n"))
	// Output:
	// # JSON output
	// true
}
