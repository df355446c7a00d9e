package debugfile

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"

	"github.com/therootcompany/xz"

	"github.com/procmem/procmem/internal/elffile"
)

// Bounds of .gnu_debugdata, in bytes: packed, unpacked, and what the unpacking may refer back
// to. That of a large browser has some MiB.
const (
	maxPacked   = 16 << 20
	maxUnpacked = 64 << 20
	maxDict     = 32 << 20
)

// Debugdata returns the small ELF file with the names of functions that distributions leave in
// stripped programs (.gnu_debugdata), nil if f has none.
func Debugdata(f *elffile.File) (data []byte, err error) {
	const section = ".gnu_debugdata"
	found, err := f.Named(section)
	if err != nil {
		return nil, err
	}
	h, ok := found[section]
	if !ok || h.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	packed, err := f.Contents(h, maxPacked)
	if err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil { // the decoder is not ours, and the bytes are anybody's
			data, err = nil, fmt.Errorf("unpack %s: %v", section, r)
		}
	}()
	r, err := xz.NewReader(bytes.NewReader(packed), maxDict)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", section, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", section, err)
	}
	if len(b) > maxUnpacked {
		return nil, fmt.Errorf("unpack %s: more than %d bytes", section, maxUnpacked)
	}
	return b, nil
}
