// Package debugfile knows where the debug information of a program may be that was stripped:
// which file to look for, where, and how to tell that a file is the one.
//
// Start with Of. The program may be anybody's, so what it claims is bounded, and leads to no
// folder but those of debug files and its own.
package debugfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strings"

	"github.com/procmem/procmem/internal/elffile"
)

// Root is the folder of debug files.
const Root = "/usr/lib/debug"

// maxLink bounds the bytes of a section that names a file.
const maxLink = 4 << 10

// Wanted is what a program tells of a file with more debug information.
type Wanted struct {
	// BuildID is that of the file. It is nil if the program has none.
	BuildID []byte
	// Link is the name of the file without a folder (.gnu_debuglink), "" if there is none. CRC
	// is the checksum of the file.
	Link string
	CRC  uint32
}

// Of returns what the program f tells of its debug file.
func Of(f *elffile.File) Wanted {
	w := Wanted{BuildID: f.BuildID()}
	name, rest := link(f, ".gnu_debuglink")
	// The checksum is at the next multiple of four bytes.
	pad := (4 - (len(name)+1)%4) % 4
	if name == "" || strings.Contains(name, "/") || name == "." || name == ".." || len(rest) < pad+4 {
		return w
	}
	w.Link, w.CRC = name, binary.LittleEndian.Uint32(rest[pad:])
	return w
}

// Alt returns what f tells of the file with what several debug files have in common
// (.gnu_debugaltlink, as dwz(1) makes it), and the path of that file, if it is absolute. Ok is
// false if f needs none.
func Alt(f *elffile.File) (w Wanted, at string, ok bool) {
	name, id := link(f, ".gnu_debugaltlink")
	if name == "" || len(id) == 0 || len(id) > 64 {
		return Wanted{}, "", false
	}
	if !path.IsAbs(name) {
		name = ""
	}
	return Wanted{BuildID: id}, name, true
}

// link returns the text in a section, and what is behind it.
func link(f *elffile.File, section string) (text string, rest []byte) {
	found, err := f.Named(section)
	if err != nil {
		return "", nil
	}
	h, ok := found[section]
	if !ok {
		return "", nil
	}
	b, err := f.Contents(h, maxLink)
	if err != nil {
		return "", nil
	}
	name, rest, ok := bytes.Cut(b, []byte{0})
	if !ok {
		return "", nil
	}
	return string(name), rest
}

// ByBuildID returns where distributions put the file, "" if w has no build id.
func (w Wanted) ByBuildID() string {
	if len(w.BuildID) < 2 || len(w.BuildID) > 64 {
		return ""
	}
	return fmt.Sprintf("%s/.build-id/%x/%x.debug", Root, w.BuildID[:1], w.BuildID[1:])
}

// ByLink returns where the file may be that a program at a path names.
func (w Wanted) ByLink(program string) []string {
	if w.Link == "" || !path.IsAbs(program) {
		return nil
	}
	dir := path.Dir(program)
	all := []string{path.Join(dir, w.Link), path.Join(dir, ".debug", w.Link), path.Join(Root, dir, w.Link)}
	if all[0] == path.Clean(program) {
		return all[1:]
	}
	return all
}

var errOther = errors.New("it is of another build")

// maxSummed is the largest file whose checksum is taken, in bytes.
const maxSummed = 1 << 30

// Check reports whether a file of size bytes is the one. It compares build ids. Where either
// has none it compares the checksum, for which it reads the whole file.
func (w Wanted) Check(r io.ReaderAt, size int64) error {
	e, err := elffile.Open(r, size)
	if err != nil {
		return err
	}
	switch id := e.BuildID(); {
	case w.BuildID != nil && id != nil:
		if !bytes.Equal(id, w.BuildID) {
			return errOther
		}
		return nil
	case w.Link == "":
		return errOther
	case size > maxSummed:
		return fmt.Errorf("its checksum is not taken, because it has more than %d bytes", maxSummed)
	}
	sum := crc32.NewIEEE()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, size)); err != nil {
		return err
	}
	if sum.Sum32() != w.CRC {
		return errOther
	}
	return nil
}
