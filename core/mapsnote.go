package core

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
)

// encodeMaps returns the mappings as the text of /proc/PID/maps, which the
// program headers of a core and NT_FILE together do not hold: names such as
// [heap], which mappings are shared, devices and inodes.
func encodeMaps(ms []procmem.Mapping) []byte {
	b := make([]byte, 0, 100*len(ms)+1)
	for i := range ms {
		m := ms[i]
		m.Path = ""
		b = append(b, m.String()...)
		if path := ms[i].Path; path != "" { // whose spaces at the end count
			// As the kernel writes it (fs/proc/task_mmu.c, seq_path),
			// so that a line stays a line.
			b = append(append(b, ' '), strings.ReplaceAll(path, "\n", `\012`)...)
		}
		b = append(b, '\n')
	}
	if len(b) == 0 {
		b = append(b, '\n') // BFD stumbles over empty notes
	}
	return b
}

// decodeMaps reads what encodeMaps wrote.
func decodeMaps(text string) ([]procmem.Mapping, error) {
	var ms []procmem.Mapping
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			continue
		}
		m, err := decodeMapsLine(line)
		if err != nil {
			return nil, fmt.Errorf("decode line %q: %w", line, err)
		}
		if k := len(ms); m.Empty() || k > 0 && m.Start < ms[k-1].End {
			return nil, fmt.Errorf("decode line %q: empty, or not behind the line before", line)
		}
		ms = append(ms, m)
	}
	return ms, nil
}

func decodeMapsLine(line string) (procmem.Mapping, error) {
	var m procmem.Mapping
	var fields [5]string
	rest := line
	for i := range fields {
		fields[i], rest, _ = strings.Cut(rest, " ")
	}
	m.Path = strings.ReplaceAll(rest, `\012`, "\n")
	number := func(s string, base, bits int, err *error) uint64 {
		v, e := strconv.ParseUint(s, base, bits)
		if e != nil && *err == nil {
			*err = e
		}
		return v
	}
	var err error
	start, end, _ := strings.Cut(fields[0], "-")
	m.Start = procmem.Addr(number(start, 16, 64, &err))
	m.End = procmem.Addr(number(end, 16, 64, &err))
	m.Offset = number(fields[2], 16, 64, &err)
	major, minor, _ := strings.Cut(fields[3], ":")
	m.Major = uint32(number(major, 16, 32, &err))
	m.Minor = uint32(number(minor, 16, 32, &err))
	m.Inode = number(fields[4], 10, 64, &err)
	if err != nil {
		return m, err
	}
	m.Perm, err = procmem.ParsePerm(fields[1])
	return m, err
}
