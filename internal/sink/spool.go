package sink

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/pageset"
)

// Spool keeps pages by address in a file that has no name, for memory that
// is copied in an order in which a stream cannot take it. Place in the file is
// given in the order of first use. Close ends it, as does the end of the
// process, however it comes.
type Spool struct {
	*pageset.Store
	file *File
}

// NewSpool makes a spool of mode 0600 in a folder.
func NewSpool(dir string) (*Spool, error) {
	f, err := Unnamed(dir)
	if err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	file := &File{f: f, direct: openDirect(f), disk: onDisk(f)}
	return &Spool{pageset.NewStore(file, nil, 0, math.MaxInt64), file}, nil
}

// Unnamed returns a new file of mode 0600 without a name, in a folder.
func Unnamed(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		return f, nil
	}
	// A file system may lack O_TMPFILE.
	if f, err = os.CreateTemp(dir, "procmem-*"+suffix); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close gives back the room that the spool takes.
func (s *Spool) Close() { s.file.close() }
