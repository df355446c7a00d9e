package process

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/procmem/procmem"
)

// maxLine bounds one line of maps and smaps: a path is at most 4096 bytes,
// each of which may be written as four.
const maxLine = 64 << 10

// ParseMaps reads the text of /proc/PID/maps (fs/proc/task_mmu.c,
// show_map_vma). An error names the line.
func ParseMaps(r io.Reader) ([]procmem.Mapping, error) {
	var ms []procmem.Mapping
	err := eachLine(r, "maps", func(line []byte) error {
		m, err := procmem.ParseMapping(line)
		if err != nil {
			return err
		}
		return appendMapping(&ms, m)
	})
	if err != nil {
		return nil, err
	}
	return ms, nil
}

// ParseSmaps reads the text of /proc/PID/smaps: mappings with Flags and
// Usage. Fields that it does not know are passed over.
func ParseSmaps(r io.Reader) ([]procmem.Mapping, error) {
	var ms []procmem.Mapping
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
		m.Usage = new(procmem.Usage)
		return appendMapping(&ms, m)
	})
	if err != nil {
		return nil, err
	}
	return ms, nil
}

// errOverlap: the text was made while the mappings changed, or makes no sense.
var errOverlap = errors.New("is not above the one before it")

func appendMapping(ms *[]procmem.Mapping, m procmem.Mapping) error {
	if k := len(*ms); k > 0 && m.Start < (*ms)[k-1].End {
		return fmt.Errorf("mapping %v %w", m.Range, errOverlap)
	}
	*ms = append(*ms, m)
	return nil
}

// scanLines is bufio.ScanLines, which would take a carriage return from the
// end of a line, where it belongs to the name of a file.
func scanLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func eachLine(r io.Reader, what string, f func([]byte) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, maxLine), maxLine)
	sc.Split(scanLines)
	n := 0
	for sc.Scan() {
		n++
		if err := f(sc.Bytes()); err != nil {
			return fmt.Errorf("parse %s: line %d: %w", what, n, err)
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("parse %s: line %d: %w", what, n+1, err)
	}
	return nil
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
