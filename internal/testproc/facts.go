package testproc

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem"
)

// Fact returns what the helper announced under the key, such as "levels" or "path newline".
func (p *Proc) Fact(t testing.TB, key string) string {
	t.Helper()
	v, ok := p.Facts[key]
	if !ok {
		t.Fatalf("testproc: %s announced no %q", p.cmd.Path, key)
	}
	return v
}

// Int returns the first word of a fact as a number.
func (p *Proc) Int(t testing.TB, key string) int64 {
	t.Helper()
	return int64(p.number(t, key, 0))
}

// Addr returns the first word of a fact as an address.
func (p *Proc) Addr(t testing.TB, key string) procmem.Addr {
	t.Helper()
	return procmem.Addr(p.number(t, key, 0))
}

// Range returns a fact of the form "START END" as a range.
func (p *Proc) Range(t testing.TB, key string) procmem.Range {
	t.Helper()
	return procmem.Range{Start: procmem.Addr(p.number(t, key, 0)), End: procmem.Addr(p.number(t, key, 1))}
}

func (p *Proc) number(t testing.TB, key string, i int) uint64 {
	t.Helper()
	f := strings.Fields(p.Fact(t, key))
	if i >= len(f) {
		t.Fatalf("testproc: fact %q has no word %d", key, i)
	}
	n, err := strconv.ParseUint(f[i], 0, 64)
	if err != nil {
		t.Fatalf("testproc: fact %q: %v", key, err)
	}
	return n
}

// Bytes returns the last word of a fact, which is hexadecimal, as bytes.
func (p *Proc) Bytes(t testing.TB, key string) []byte {
	t.Helper()
	v := p.Fact(t, key)
	b, err := hex.DecodeString(v[strings.LastIndexByte(v, ' ')+1:])
	if err != nil {
		t.Fatalf("testproc: fact %q: %v", key, err)
	}
	return b
}

// Needle returns where a needle is, and what.
func (p *Proc) Needle(t testing.TB, name string) (procmem.Addr, []byte) {
	t.Helper()
	return p.Addr(t, "needle "+name), p.Bytes(t, "needle "+name)
}

// File returns the absolute path of the file of a mapping.
func (p *Proc) File(t testing.TB, name string) string {
	t.Helper()
	path, err := strconv.Unquote(p.Fact(t, "path "+name))
	if err != nil {
		t.Fatalf("testproc: path %s: %v", name, err)
	}
	return path
}

// Map is a mapping that a helper made.
type Map struct {
	Name string
	procmem.Range
	// FileSize is the size of the mapped file, which holds FileWord(offset) at each offset, or
	// -1 where a page that is not stamped holds zeros.
	FileSize int64
	stamped  [][2]int // first and last
}

// FileWord returns the 8-byte word that the helpers' files hold at an offset which is a
// multiple of 8.
func FileWord(offset int64) uint64 { return 0xf11e000000000000 + uint64(offset) }

// parseMap reads NAME ADDR LEN KIND STAMPED.
func parseMap(f []string) (Map, error) {
	if len(f) != 5 {
		return Map{}, errors.New("want map NAME ADDR LEN KIND STAMPED")
	}
	start, err := procmem.ParseAddr(f[1])
	if err != nil {
		return Map{}, err
	}
	size, err := strconv.ParseUint(f[2], 10, 64)
	if err != nil {
		return Map{}, err
	}
	m := Map{Name: f[0], Range: procmem.Range{Start: start, End: start + procmem.Addr(size)}, FileSize: -1}
	if s, ok := strings.CutPrefix(f[3], "file:"); ok {
		if m.FileSize, err = strconv.ParseInt(s, 10, 64); err != nil {
			return Map{}, err
		}
	}
	if f[4] == "-" {
		return m, nil
	}
	for s := range strings.SplitSeq(f[4], ",") {
		a, b, two := strings.Cut(s, "-")
		if !two {
			b = a
		}
		first, err1 := strconv.Atoi(a)
		last, err2 := strconv.Atoi(b)
		if err := errors.Join(err1, err2); err != nil {
			return Map{}, err
		}
		m.stamped = append(m.stamped, [2]int{first, last})
	}
	return m, nil
}

// Maps returns the mappings that the helper announced, in its order.
func (p *Proc) Maps() []Map { return slices.Clone(p.maps) }

// Map returns the mapping of that name. Where the kernel of this machine does not have that
// kind the test is skipped.
func (p *Proc) Map(t testing.TB, name string) Map {
	t.Helper()
	for _, m := range p.maps {
		if m.Name == name {
			return m
		}
	}
	if reason, ok := p.Facts["no "+name]; ok {
		t.Skipf("testproc: no mapping %q here: %s", name, reason)
	}
	t.Fatalf("testproc: %s announced no mapping %q", p.cmd.Path, name)
	return Map{}
}

// Pages returns the number of pages.
func (m Map) Pages() int { return int(m.Size() / procmem.PageSize) }

// Page returns the address of a page.
func (m Map) Page(i int) procmem.Addr { return m.Start + procmem.Addr(i)*procmem.PageSize }

// Stamped reports whether the helper has written the page.
func (m Map) Stamped(i int) bool {
	for _, r := range m.stamped {
		if i >= r[0] && i <= r[1] {
			return true
		}
	}
	return false
}

// Readable reports whether page i of a mapping of zoo can be read.
func (m Map) Readable(i int) bool {
	switch m.Name {
	case "secret":
		return false
	case "guard", "eof":
		return i != 2
	case "guardfile", "guardshared":
		return i != 1
	case "uffd":
		return i == 0
	}
	return true
}

// Ring returns where a mapping of zoo lies whose bytes are the kernel's. Where there is none
// the test is skipped.
func (p *Proc) Ring(t testing.TB, name string) procmem.Range {
	t.Helper()
	if reason, ok := p.Facts["no "+name]; ok {
		t.Skipf("testproc: no mapping %q here: %s", name, reason)
	}
	var start, size uint64
	if _, err := fmt.Sscanf(p.Fact(t, "area "+name), "0x%x %d", &start, &size); err != nil {
		t.Fatalf("testproc: ring %s: %v", name, err)
	}
	return procmem.Range{Start: procmem.Addr(start), End: procmem.Addr(start + size)}
}

// Want returns what page i of the mapping holds as long as no command has changed it: the
// stamp, the file, or zeros.
func (p *Proc) Want(t testing.TB, m Map, i int) []byte {
	t.Helper()
	if m.Stamped(i) {
		return p.Stamp(t, m.Page(i))
	}
	page := make([]byte, procmem.PageSize)
	for k := int64(0); m.FileSize >= 0 && k < procmem.PageSize; k += 8 {
		offset := int64(i)*procmem.PageSize + k
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], FileWord(offset))
		copy(page[k:], word[:min(8, max(0, m.FileSize-offset))])
	}
	return page
}

// Stamp returns what a stamped page at addr holds: in each 8-byte word, the process's stamp
// plus the word's address.
func (p *Proc) Stamp(t testing.TB, addr procmem.Addr) []byte {
	t.Helper()
	stamp := p.number(t, "stamp", 0)
	page := make([]byte, procmem.PageSize)
	for k := 0; k < len(page); k += 8 {
		binary.LittleEndian.PutUint64(page[k:], stamp+uint64(addr)+uint64(k))
	}
	return page
}

// Fill is the memory of the helper many in its mode fill.
type Fill struct {
	procmem.Range
	Kind  string // random, zero or mixed
	stamp uint64
}

// Fill returns the memory that `many fill` has filled.
func (p *Proc) Fill(t testing.TB) Fill {
	t.Helper()
	base, size := p.Addr(t, "fill"), p.number(t, "fill", 1)
	kind := strings.Fields(p.Fact(t, "fill"))[2]
	return Fill{procmem.Range{Start: base, End: base + procmem.Addr(size)}, kind, p.number(t, "stamp", 0)}
}

// Want fills page with what page i holds as long as the writer has not been there; it changes
// the last 8 bytes alone.
func (f Fill) Want(page []byte, i int) {
	page = page[:procmem.PageSize]
	switch {
	case f.Kind == "zero", f.Kind == "mixed" && i%4 == 0:
		clear(page)
	case f.Kind == "mixed" && i%4 == 1:
		line := fmt.Sprintf("%-63s\n", fmt.Sprintf("page %12d: the same words again and again", i))
		for k := 0; k < len(page); k += len(line) {
			copy(page[k:], line)
		}
	default:
		addr := uint64(f.Start) + uint64(i)*procmem.PageSize
		for k := 0; k < len(page); k += 8 {
			binary.LittleEndian.PutUint64(page[k:], mix(f.stamp+addr+uint64(k)))
		}
	}
}

// mix is splitmix64, as in helper.h.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// CheckWitness reads the first 8-byte word of each of the n pages at base, and returns the
// number of steps in these words. The helper witness stamps the pages in ascending order, with
// a counter that grows by one from sweep to sweep. A memory that is one moment has one step at
// most. It holds the number of the sweep up to the page stamped last, and the number before
// behind it. More steps tell that the memory is torn. A difference of several sweeps counts as
// so many steps. Pages that are newer than those before them, which no moment ever has, count
// as two or more.
func CheckWitness(read func(addr procmem.Addr, p []byte) error, base procmem.Addr, n int) (steps int, err error) {
	var last uint64
	for i := range n {
		addr, err := base.Add(uint64(i) * procmem.PageSize)
		if err != nil {
			return steps, err
		}
		var word [8]byte
		if err := read(addr, word[:]); err != nil {
			return steps, fmt.Errorf("witness page %d of %d: %w", i, n, err)
		}
		v := binary.LittleEndian.Uint64(word[:])
		switch {
		case i > 0 && v < last:
			steps += int(min(last-v, 1<<20))
		case i > 0 && v > last:
			steps += int(min(v-last, 1<<20)) + 1
		}
		last = v
	}
	return steps, nil
}
