package procmem

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// pathColumn is where 64-bit kernels put the path into a line of maps, where what comes before
// is shorter (fs/proc/task_mmu.c, show_vma_header_prefix and seq_pad).
const pathColumn = 73

// String returns the line of /proc/PID/maps, without its padding and newline.
func (m Mapping) String() string {
	line := fmt.Sprintf("%x-%x %v %08x %02x:%02x %d", uint64(m.Start), uint64(m.End),
		m.Perm, m.Offset, m.Major, m.Minor, m.Inode)
	if m.Path == "" {
		return line
	}
	return line + " " + escapePath.Replace(m.Path)
}

// The kernel has one escape, "\012" for a newline, and none for the backslash: a file whose
// name has these four characters looks the same. String tells them apart; in text of the
// kernel's package process does.
var (
	escapePath   = strings.NewReplacer("\n", `\012`, `\012`, `\134012`)
	unescapePath = strings.NewReplacer(`\012`, "\n", `\134012`, `\012`)
)

// ParseMapping parses a line of /proc/PID/maps without its newline, or what String returns. It
// undoes the escape of maps: "\012" is a newline in the path.
func ParseMapping(line []byte) (Mapping, error) {
	var m Mapping
	field, rest := cutField(line)
	lo, hi, ok := bytes.Cut(field, []byte("-"))
	if !ok {
		return m, fmt.Errorf("address range %q: want START-END", field)
	}
	start, err1 := parseUint(lo, 16, 64)
	end, err2 := parseUint(hi, 16, 64)
	if err := errors.Join(err1, err2); err != nil {
		return m, fmt.Errorf("address range %q: %w", field, err)
	}
	if end <= start {
		return m, fmt.Errorf("address range %q is empty", field)
	}
	m.Range = Range{Addr(start), Addr(end)}

	field, rest = cutField(rest)
	var err error
	if m.Perm, err = ParsePerm(string(field)); err != nil {
		return m, err
	}
	field, rest = cutField(rest)
	if m.Offset, err = parseUint(field, 16, 64); err != nil {
		return m, fmt.Errorf("offset %q: %w", field, err)
	}
	field, rest = cutField(rest)
	major, minor, ok := bytes.Cut(field, []byte(":"))
	if !ok {
		return m, fmt.Errorf("device %q: want MAJOR:MINOR", field)
	}
	maj, err1 := parseUint(major, 16, 32)
	mnr, err2 := parseUint(minor, 16, 32)
	if err := errors.Join(err1, err2); err != nil {
		return m, fmt.Errorf("device %q: %w", field, err)
	}
	m.Major, m.Minor = uint32(maj), uint32(mnr)
	field, rest = cutField(rest)
	if m.Inode, err = parseUint(field, 10, 64); err != nil {
		return m, fmt.Errorf("inode %q: %w", field, err)
	}
	m.Path = mapsPath(line, rest)
	return m, nil
}

// mapsPath takes the padding off what follows the inode. A path may itself begin with spaces,
// so where it begins is known by the column.
func mapsPath(line, rest []byte) string {
	if len(rest) == 0 {
		return ""
	}
	skip := 1
	if inode := len(line) - len(rest); inode < pathColumn && len(line) > pathColumn &&
		len(bytes.Trim(line[inode:pathColumn], " ")) == 0 {
		skip = pathColumn - inode
	}
	return unescapePath.Replace(string(rest[skip:]))
}

func cutField(b []byte) (field, rest []byte) {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i:]
	}
	return b, nil
}

func parseUint(b []byte, base, bits int) (uint64, error) {
	v, err := strconv.ParseUint(string(b), base, bits)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	return v, nil
}
