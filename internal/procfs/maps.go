package procfs

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/procmem/procmem"
)

const (
	// maxPaths bounds the bytes of all paths of a process, each counted once. Paths beyond it
	// are cut off.
	maxPaths = 64 << 20
	shortest = 64 // length, in bytes, up to which a path is never cut off
)

// paths keeps each path once, because a process may have thousands of mappings of one file,
// with a path of any length.
type paths struct {
	seen map[string]string
	left int
}

func newPaths() *paths { return &paths{make(map[string]string), maxPaths} }

func (p *paths) keep(path string) string {
	if path == "" {
		return ""
	}
	if s, ok := p.seen[path]; ok {
		return s
	}
	if len(path) > shortest && len(path) > p.left {
		return cutMark
	}
	p.left -= len(path)
	path = strings.Clone(path)
	p.seen[path] = path
	return path
}

// ParseMaps reads the text of /proc/PID/maps (fs/proc/task_mmu.c, show_map_vma). It returns the
// mappings, ascending. An error names the line.
func ParseMaps(r io.Reader) ([]procmem.Mapping, error) {
	var ms []procmem.Mapping
	all := newPaths()
	err := eachLine(r, "maps", func(line []byte) error {
		m, err := procmem.ParseMapping(line)
		if err != nil {
			return err
		}
		m.Path = all.keep(m.Path)
		return appendMapping(&ms, m)
	})
	if err != nil {
		return nil, err
	}
	return ms, nil
}

// ErrOverlap reports that the mappings changed while the text was made, or that the text makes
// no sense.
var ErrOverlap = errors.New("is not above the one before it")

func appendMapping(ms *[]procmem.Mapping, m procmem.Mapping) error {
	if k := len(*ms); k > 0 && m.Start < (*ms)[k-1].End {
		return fmt.Errorf("mapping %v %w", m.Range, ErrOverlap)
	}
	*ms = append(*ms, m)
	return nil
}

// SameLine reports whether two mappings have the same line in maps.
func SameLine(a, b *procmem.Mapping) bool {
	return a.Range == b.Range && a.Perm == b.Perm && a.Offset == b.Offset && a.Inode == b.Inode &&
		a.Major == b.Major && a.Minor == b.Minor && a.Path == b.Path
}

// KeepKnown gives mappings, of which only the line in maps is known, what was known of those
// that had the same line. Both are ascending. It returns the ranges of the others.
func KeepKnown(now, before []procmem.Mapping) (fresh []procmem.Range) {
	k := 0
	for i := range now {
		m := &now[i]
		for k < len(before) && before[k].Start < m.Start {
			k++
		}
		if k < len(before) && SameLine(m, &before[k]) {
			m.Flags, m.Usage, m.Unreachable = before[k].Flags, before[k].Usage, before[k].Unreachable
			continue
		}
		fresh = append(fresh, m.Range)
	}
	return fresh
}
