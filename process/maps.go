package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
)

const (
	// maxLine bounds how many bytes of one line are kept. A path may be longer than any that
	// can be opened, if its folders were made one in the other.
	maxLine = 64 << 10
	// maxPaths bounds the bytes of all paths of a process, each counted once. Paths beyond it,
	// and lines beyond maxLine, are cut off.
	maxPaths = 64 << 20
	shortest = 64 // length, in bytes, up to which a path is never cut off
)

// cutMark ends what was cut off, so that it is not taken for a name.
const cutMark = "…"

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

// ParseSmaps reads the text of /proc/PID/smaps. It returns the mappings with Flags and Usage,
// ascending. Unknown fields are skipped. An error names the line.
func ParseSmaps(r io.Reader) ([]procmem.Mapping, error) {
	var ms []procmem.Mapping
	all := newPaths()
	err := eachLine(r, "smaps", func(line []byte) error {
		if len(line) > 0 && line[0] >= 'A' && line[0] <= 'Z' {
			if len(ms) == 0 {
				return errors.New("field before the first mapping")
			}
			return parseSmapsField(&ms[len(ms)-1], line)
		}
		m, err := procmem.ParseMapping(line)
		if err != nil {
			return err
		}
		m.Path = all.keep(m.Path)
		m.Usage = new(procmem.Usage)
		return appendMapping(&ms, m)
	})
	if err != nil {
		return nil, err
	}
	return ms, nil
}

// errOverlap reports that the mappings changed while the text was made, or that the text makes
// no sense.
var errOverlap = errors.New("is not above the one before it")

func appendMapping(ms *[]procmem.Mapping, m procmem.Mapping) error {
	if k := len(*ms); k > 0 && m.Start < (*ms)[k-1].End {
		return fmt.Errorf("mapping %v %w", m.Range, errOverlap)
	}
	*ms = append(*ms, m)
	return nil
}

// eachLine calls f with each line, without its newline. Of a line longer than maxLine, f gets
// the beginning.
func eachLine(r io.Reader, what string, f func([]byte) error) error {
	in := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err == nil || errors.Is(err, io.EOF) {
			if err := f(line); err != nil {
				return fmt.Errorf("parse %s: line %d: %w", what, n, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("parse %s: line %d: %w", what, n, err)
		}
	}
}

// readLine returns the next line, which is valid until the next call. The error is nil where
// there was a newline.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	line = append(bytes.Clone(line), cutMark...)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = in.ReadSlice('\n')
	}
	return line, err
}

func parseSmapsField(m *procmem.Mapping, line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return fmt.Errorf("field %q: want NAME: VALUE", line)
	}
	name, rest := line[:colon], line[colon+1:]
	if string(name) == "VmFlags" {
		m.Flags = procmem.ParseVMFlags(rest)
		return nil
	}
	var dst *uint64
	u := m.Usage
	switch string(name) {
	case "Rss":
		dst = &u.RSS
	case "Pss":
		dst = &u.PSS
	case "Shared_Clean":
		dst = &u.SharedClean
	case "Shared_Dirty":
		dst = &u.SharedDirty
	case "Private_Clean":
		dst = &u.PrivateClean
	case "Private_Dirty":
		dst = &u.PrivateDirty
	case "Anonymous":
		dst = &u.Anonymous
	case "Swap":
		dst = &u.Swap
	case "Shared_Hugetlb", "Private_Hugetlb":
		var v uint64
		if err := parseKB(rest, &v); err != nil {
			return fmt.Errorf("field %s: %w", name, err)
		}
		u.HugeTLB += v
		return nil
	default:
		return nil
	}
	if err := parseKB(rest, dst); err != nil {
		return fmt.Errorf("field %s: %w", name, err)
	}
	return nil
}

// parseKB reads "   12 kB" into bytes.
func parseKB(b []byte, dst *uint64) error {
	num, ok := bytes.CutSuffix(bytes.TrimLeft(b, " \t"), []byte(" kB"))
	v, err := parseUint(num, 10, 54)
	if !ok || err != nil {
		return fmt.Errorf("%q: want a size in kB", b)
	}
	*dst = v << 10
	return nil
}

// parseUint is strconv.ParseUint for bytes, with the reason alone as error.
func parseUint(b []byte, base, bits int) (uint64, error) {
	v, err := strconv.ParseUint(string(b), base, bits)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	return v, nil
}
