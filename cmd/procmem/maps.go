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
FLAGS are those of VmFlags in /proc/PID/smaps (proc(5)).
Of a core: SIZE, and how much of it the file holds (DUMPED), in KiB.`,
		Example: "  procmem maps 1234\n  procmem maps core.1234",
		Args:    exactly("TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := target.Open(args[0])
			if err != nil {
				return err
			}
			defer t.Close()
			ms, err := mappings(t)
			if err != nil {
				return onTarget(t, err)
			}
			if g.json {
				return printJSON(mapsJSON(t, ms))
			}
			if t.Core != nil {
				return stdoutError(coreMapsTable(t, ms, g))
			}
			return stdoutError(mapsTable(ms, g))
		},
	})
}

// mappings lists the mappings. Of a process that takes fewer rights than
// reading its memory: Yama does not restrict it.
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

// mappingJSON is one mapping; sizes are in bytes.
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
		Target   string        `json:"target"`
		Mappings []mappingJSON `json:"mappings"`
	}{t.Word, make([]mappingJSON, 0, len(ms))}
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

func mapsTable(ms []procmem.Mapping, g *globals) error {
	right := func(title string) term.Column { return term.Column{Title: title, Right: true} }
	tab := term.NewTable(os.Stdout, g.color.Enabled(os.Stdout),
		term.Column{Title: "RANGE"}, term.Column{Title: "PERM"}, right("SIZE"), right("RSS"), right("PSS"),
		right("DIRTY"), right("SWAP"), term.Column{Title: "MAPPING"}, term.Column{Title: "FLAGS"})
	var size uint64
	var sum procmem.Usage
	for i := range ms {
		m := &ms[i]
		u := m.Usage
		size += m.Size()
		sum.RSS += u.RSS + u.HugeTLB
		sum.PSS += u.PSS
		sum.PrivateDirty += u.PrivateDirty + u.SharedDirty
		sum.Swap += u.Swap
		if err := tab.Row(m.Range.String(), m.Perm.String(), kib(m.Size()), kib(u.RSS+u.HugeTLB), kib(u.PSS),
			kib(u.PrivateDirty+u.SharedDirty), kib(u.Swap), nameOf(m), m.Flags.String()); err != nil {
			return err
		}
	}
	if err := tab.Row(fmt.Sprintf("%d mappings", len(ms)), "", kib(size), kib(sum.RSS), kib(sum.PSS), kib(sum.PrivateDirty), kib(sum.Swap), "", ""); err != nil {
		return err
	}
	return tab.Close()
}

func coreMapsTable(t *target.Target, ms []procmem.Mapping, g *globals) error {
	segs := t.Core.Segments()
	tab := term.NewTable(os.Stdout, g.color.Enabled(os.Stdout),
		term.Column{Title: "RANGE"}, term.Column{Title: "PERM"}, term.Column{Title: "SIZE", Right: true},
		term.Column{Title: "DUMPED", Right: true}, term.Column{Title: "MAPPING"})
	var size, held uint64
	for i := range ms {
		m := &ms[i]
		d := dumpedBytes(segs, m.Range)
		size += m.Size()
		held += d
		if err := tab.Row(m.Range.String(), m.Perm.String(), kib(m.Size()), kib(d), nameOf(m)); err != nil {
			return err
		}
	}
	if err := tab.Row(fmt.Sprintf("%d mappings", len(ms)), "", kib(size), kib(held), ""); err != nil {
		return err
	}
	return tab.Close()
}

func nameOf(m *procmem.Mapping) string {
	if m.Path == "" {
		return "[anon]"
	}
	return m.Path
}

// dumpedBytes returns how much of r the segments of a core hold.
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
