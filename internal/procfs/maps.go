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
