package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/procmem/procmem"
)

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
