// Package perfmap reads the files in which runtimes that compile code while they run tell its
// names: /tmp/perf-PID.map, with a line "START SIZE NAME" for each function.
//
// Start with Read. The file is written by the process that is looked at: bounds hold whatever is
// in it.
package perfmap

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"slices"
	"strconv"
)

// Bounds of a file. A large program of Java has some ten thousand functions.
const (
	maxBytes   = 64 << 20
	maxEntries = 1 << 20
	maxName    = 4 << 10 // bytes
)

// Map is what a file tells.
type Map struct {
	entries []entry // by start; of equal ones the later line is last
}

type entry struct {
	start, end uint64
	reach      uint64 // the highest end up to this one
	line       uint32 // later ones are of code that has taken the place of other code
	name       string
}

// Read reads a file, as far as it makes sense.
func Read(r io.Reader) *Map {
	m := &Map{}
	lines := bufio.NewScanner(io.LimitReader(r, maxBytes))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && len(m.entries) < maxEntries {
		if e, ok := parse(lines.Bytes()); ok {
			e.line = uint32(len(m.entries))
			m.entries = append(m.entries, e)
		}
	}
	slices.SortStableFunc(m.entries, func(a, b entry) int { return cmp.Compare(a.start, b.start) })
	reach := uint64(0)
	for i := range m.entries {
		reach = max(reach, m.entries[i].end)
		m.entries[i].reach = reach
	}
	return m
}

func parse(line []byte) (entry, bool) {
	start, rest, ok1 := bytes.Cut(line, []byte(" "))
	size, name, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || len(name) == 0 {
		return entry{}, false
	}
	low, err1 := number(start)
	n, err2 := number(size)
	if err1 != nil || err2 != nil || n == 0 || low+n < low {
		return entry{}, false
	}
	return entry{start: low, end: low + n, name: string(name[:min(len(name), maxName)])}, true
}

func number(b []byte) (uint64, error) {
	return strconv.ParseUint(string(bytes.TrimPrefix(b, []byte("0x"))), 16, 64)
}

// Lookup returns the name of the code at an address, and the offset of the address in it, in
// bytes. Of several that claim the address the last line holds.
func (m *Map) Lookup(a uint64) (name string, offset uint64, ok bool) {
	i, _ := slices.BinarySearchFunc(m.entries, a, func(e entry, a uint64) int {
		if e.start <= a {
			return -1
		}
		return 1
	})
	const most = 256 // that claim an address, and have been replaced
	best := -1
	for k := i - 1; k >= max(0, i-most) && m.entries[k].reach > a; k-- {
		if a < m.entries[k].end && (best < 0 || m.entries[k].line > m.entries[best].line) {
			best = k
		}
	}
	if best < 0 {
		return "", 0, false
	}
	return m.entries[best].name, a - m.entries[best].start, true
}
