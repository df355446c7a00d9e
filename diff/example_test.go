package diff_test

import (
	"context"
	"fmt"
	"log"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/diff"
)

// Two cores of one process: what has happened in between.
func Example() {
	before, err := core.Open("core.before")
	if err != nil {
		log.Fatal(err)
	}
	defer before.Close()
	after, err := core.Open("core.after")
	if err != nil {
		log.Fatal(err)
	}
	defer after.Close()

	d, err := diff.New(before, after, diff.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range d.Mappings() {
		fmt.Println(m.Kind, m.Range)
	}
	for c, err := range d.Changes(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v: %x -> %x\n", c.Range, c.A, c.B)
	}
	s := d.Stats()
	fmt.Println(s.Changed, "bytes of", s.Compared, "differ;", s.MissingBytes, "could not be compared")
}
