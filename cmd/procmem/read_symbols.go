package main

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/symbols"
	"github.com/procmem/procmem/target"
)

// symbolsOf returns the symbols of a target, with the mappings and the memory that it was
// opened with. Nothing is read before it is needed.
func symbolsOf(t *target.Target, mem procmem.Memory, ms []procmem.Mapping) *symbols.Table {
	if t.Core != nil {
		return symbols.New(ms, symbols.OfCore(mem))
	}
	return symbols.New(ms, symbols.OfProcess(t.Process.PID(), mem))
}
