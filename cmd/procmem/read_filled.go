package main

import (
	"errors"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/symbols"
)

// filled returns the memory of a target. What a core leaves out of programs and libraries is
// read from their files, and a notice says so. done must be called when it is not needed any
// more.
func filled(o *opened) (mem procmem.Memory, done func()) {
	if o.Core == nil {
		return o.mem, func() {}
	}
	f := symbols.Fill(o.mem, o.maps, func(f *symbols.Found) {
		notice("the core does not hold this part of %s: it is read from the file, which has the same build id (%x)", f.Path, f.BuildID)
	})
	return f, func() { _ = f.Close() } // files that were only read
}

// inShort returns the reason of a fault for a line that has many. It leaves out which file is
// not at hand.
func inShort(err error) string {
	if _, ok := errors.AsType[*symbols.NotFoundError](err); ok {
		return procmem.ErrNotDumped.Error()
	}
	return procmem.Cause(err).Error()
}
