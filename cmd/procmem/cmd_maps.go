package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/target"
)

func newMaps(g *globals) *cobra.Command {
	return g.addJSON(&cobra.Command{
		Use:   "maps TARGET",
		Short: "List the mappings: addresses, sizes, what is in memory, flags",
		Long: `List the mappings of a process or of a core.

Of a process: SIZE, and how much of it is in memory (RSS), in memory shared
out over all who map it (PSS), written (DIRTY) and swapped out (SWAP), in KiB;
FLAGS are those of VmFlags in /proc/PID/smaps (proc(5)) that PERM does not tell.
Of a core: SIZE, and how much of it the file holds (DUMPED), in KiB.

A narrow terminal gets fewer columns, and the ends of the names where they are
too long; a pipe gets everything.`,
		Example: "  procmem maps 1234\n  procmem maps core.1234\n  procmem maps 1234 --json",
		Args:    oneList,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := target.ParseList(args[0])
			if err != nil {
				return err
			}
			heads := headings{on: list.Several() && !g.json}
			return eachTarget(list, usual, openTarget, func(t *target.Target) error {
				ms, err := mappings(t)
				if err != nil {
					return onTarget(t, err)
				}
				if g.json {
					return orCutOff(printJSON(mapsJSON(t, ms)), t)
				}
				heads.next(whoseOf(t))
				if t.Core != nil {
					return orCutOff(stdoutError(coreMapsTable(t, ms, g)), t)
				}
				return stdoutError(mapsTable(ms, g))
			})
		},
	})
}

// mappings returns the mappings of a target. For a process that takes fewer rights than reading
// its memory: Yama does not restrict it.
func mappings(t *target.Target) ([]procmem.Mapping, error) {
	if t.Core != nil {
		return t.Core.Mappings()
	}
	ms, err := t.Process.Smaps()
	if err == nil && len(ms) == 0 {
		err = unix.ESRCH // a zombie or a kernel thread
	}
	return ms, err
}

// mappingJSON is one mapping. Sizes are in bytes.
type mappingJSON struct {
	procmem.Range
	Size   uint64         `json:"size"`
	Perm   procmem.Perm   `json:"perm"`
	Offset uint64         `json:"offset"`
	Device string         `json:"device"`
	Inode  uint64         `json:"inode"`
	Path   string         `json:"path"`
	Flags  *string        `json:"flags,omitempty"`
	Usage  *procmem.Usage `json:"usage,omitempty"`
	Dumped *uint64        `json:"dumped,omitempty"`
}

func mapsJSON(t *target.Target, ms []procmem.Mapping) any {
	out := struct {
		Target string `json:"target"`
		identity
		Mappings []mappingJSON `json:"mappings"`
	}{t.Word, whoseOf(t).identity, make([]mappingJSON, 0, len(ms))}
	for i := range ms {
		m := &ms[i]
		j := mappingJSON{Range: m.Range, Size: m.Size(), Perm: m.Perm, Offset: m.Offset,
			Device: fmt.Sprintf("%02x:%02x", m.Major, m.Minor), Inode: m.Inode, Path: m.Path, Usage: m.Usage}
		if t.Core != nil {
			d := dumpedBytes(t.Core.Segments(), m.Range)
			j.Dumped = &d
		} else {
			f := m.Flags.String()
			j.Flags = &f
		}
		out.Mappings = append(out.Mappings, j)
	}
	return out
}

func kib(n uint64) string { return strconv.FormatUint((n+1023)>>10, 10) }

// permFlags are the flags that PERM shows, and those for what mprotect may add, which are
// nearly always all set.
const permFlags = "rd wr ex sh mr mw me ms"

func otherFlags(f procmem.VMFlags) string { return (f &^ procmem.ParseVMFlags(permFlags)).String() }

// mapsColumn is a column of numbers, with their sum in the last row.
type mapsColumn struct {
	title string
	bytes func(*procmem.Mapping) uint64
	spare int // as of term.Column
}

func mapsTable(ms []procmem.Mapping, g *globals) error {
	usage := func(f func(u *procmem.Usage) uint64) func(*procmem.Mapping) uint64 {
		return func(m *procmem.Mapping) uint64 { return f(m.Usage) }
	}
	return printMaps(ms, g, true,
		mapsColumn{"SIZE", func(m *procmem.Mapping) uint64 { return m.Size() }, 0},
		mapsColumn{"RSS", usage(func(u *procmem.Usage) uint64 { return u.RSS + u.HugeTLB }), 1},
		mapsColumn{"PSS", usage(func(u *procmem.Usage) uint64 { return u.PSS }), 4},
		mapsColumn{"DIRTY", usage(func(u *procmem.Usage) uint64 { return u.PrivateDirty + u.SharedDirty }), 2},
		mapsColumn{"SWAP", usage(func(u *procmem.Usage) uint64 { return u.Swap }), 3})
}

func coreMapsTable(t *target.Target, ms []procmem.Mapping, g *globals) error {
	segs := t.Core.Segments()
	return printMaps(ms, g, false,
		mapsColumn{"SIZE", func(m *procmem.Mapping) uint64 { return m.Size() }, 0},
		mapsColumn{"DUMPED", func(m *procmem.Mapping) uint64 { return dumpedBytes(segs, m.Range) }, 1})
}

// printMaps prints a row for each mapping, and the sums.
func printMaps(ms []procmem.Mapping, g *globals, flags bool, numbers ...mapsColumn) error {
	sums := make([]uint64, len(numbers))
	widest := 0
	for i := range ms {
		for k, c := range numbers {
			sums[k] += c.bytes(&ms[i])
		}
		widest = max(widest, len(ms[i].Range.String()))
	}
	cols := []term.Column{{Title: "RANGE", Width: widest, Most: rangeWidth}, {Title: "PERM"}}
	for k, c := range numbers {
		cols = append(cols, term.Column{Title: c.title, Right: true, Width: len(kib(sums[k])), Spare: c.spare})
	}
	if flags {
		cols = append(cols, term.Column{Title: "FLAGS", Spare: 5})
	}
	tab := term.NewTable(os.Stdout, g.color.Enabled(os.Stdout), append(cols, term.Column{Title: "MAPPING"})...)
	tab.Fit(columnsOf(os.Stdout), leastPath)
	for i := range ms {
		m := &ms[i]
		row := []string{m.Range.String(), m.Perm.String()}
		for _, c := range numbers {
			row = append(row, kib(c.bytes(m)))
		}
		if flags {
			row = append(row, otherFlags(m.Flags))
		}
		if err := tab.Row(append(row, target.Name(m))...); err != nil {
			return err
		}
	}
	row := []string{count(len(ms), "mapping"), ""}
	for _, n := range sums {
		row = append(row, kib(n))
	}
	if flags {
		row = append(row, "")
	}
	if err := tab.Row(append(row, "(sizes are in KiB)")...); err != nil {
		return err
	}
	return tab.Close()
}

// dumpedBytes returns how many bytes of r the segments of a core hold.
func dumpedBytes(segs []core.Segment, r procmem.Range) uint64 {
	var n uint64
	for _, s := range segs[firstSegment(segs, r.Start):] {
		if s.Start >= r.End {
			break
		}
		if s.Dumped {
			n += s.Intersect(r).Size()
		}
	}
	return n
}

func firstSegment(segs []core.Segment, a procmem.Addr) int {
	lo, hi := 0, len(segs)
	for lo < hi {
		if mid := (lo + hi) / 2; segs[mid].End <= a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
