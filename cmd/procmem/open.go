package main

import (
	"errors"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/symbols"
	"github.com/procmem/procmem/target"
)

// openTarget resolves a TARGET. A core may be compressed.
func openTarget(word string) (*target.Target, error) {
	t, err := target.OpenWith(word, openOptions(word, notice))
	switch {
	case err != nil:
	case t.Process != nil:
		tellWaits(t.Process)
	default:
		tellDamage(word, t.Core)
	}
	return t, err
}

// opened is a target whose memory is read, with what names addresses in it.
type opened struct {
	*target.Target
	mem     procmem.Sparse
	maps    []procmem.Mapping
	symbols *symbols.Table
	done    func()
}

// openMemory opens a TARGET for reading. Close must be called.
func openMemory(word string) (o *opened, err error) {
	o = &opened{done: func() {}}
	if o.Target, err = openTarget(word); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			o.Close()
			o = nil
		}
	}()
	var done func()
	if o.mem, done, err = o.Memory(); err != nil {
		return o, err
	}
	o.done = done
	if o.maps, err = o.mem.Mappings(); err != nil {
		return o, onTarget(o.Target, err)
	}
	o.symbols = symbolsOf(o.Target, o.mem, o.maps)
	return o, nil
}

func (o *opened) Close() error {
	o.done()
	return o.Target.Close()
}

// openOptions returns options that print notices about a core.
func openOptions(path string, notice func(format string, args ...any)) core.OpenOptions {
	return core.OpenOptions{
		Unpacking: func(why string, _ func() int64, _ int64) {
			notice("%s %s: unpacking it to a temporary file first; procmem pack would make it quick to open", path, why)
		},
		Notice: func(text string) { notice("%s", text) },
	}
}

// tellDamage prints which parts of a core that describe the process are damaged.
func tellDamage(path string, c *core.File) {
	for _, d := range c.Damaged() {
		if !isCut(d) {
			notice("%s is damaged: %v; what is read from it may be wrong (procmem verify compares all)", path, d)
		}
	}
	if what := cutOff(c); what != "" {
		notice("%s is cut off: %s is missing", path, what)
	}
	if r := c.Report(); r != nil && r.MissingMore > 0 {
		notice("%s lacks %s of memory more than it could list, with %d bytes: they read as zeros, and which they are is not known",
			path, count(r.MissingMore, "range"), r.MissingMoreBytes)
	}
}

func isCut(d core.Damage) bool { return errors.Is(d.Err, procmem.ErrTruncated) }

// cutOff says what a core ends before, or returns "" where it is whole. Damaged headers make it
// seem cut off, too.
func cutOff(c *core.File) string {
	bad := c.Damaged()
	notes := slices.ContainsFunc(bad, isCut)
	if len(bad) > 0 && !notes {
		return ""
	}
	var n uint64
	for _, m := range c.Truncated() {
		n += m.Size()
	}
	const told = "what notes tell of threads, names and memory that could not be read"
	switch {
	case n > 0 && notes:
		return units.Size(n) + " of the memory that it should hold, and " + told + ","
	case n > 0:
		return units.Size(n) + " of the memory that it should hold"
	case notes:
		return told
	}
	return ""
}
