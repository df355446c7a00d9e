package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/internal/sink"
)

// unpackUnnamed returns a file without a name that holds the plain bytes of src, with holes. It
// ends with the last program that has it open.
func unpackUnnamed(src *packed.Source, path string, p *progress) (*os.File, error) {
	if f := src.File(); f != nil { // opening it has unpacked it already
		return f, nil
	}
	dir := os.TempDir()
	none := func() (uint64, error) { return 0, nil }
	if _, err := sink.Fit(filepath.Join(dir, "core"), dataOf(src), uint64(src.Size()), none); err != nil {
		return nil, fmt.Errorf("unpack %s: %w (set TMPDIR to another folder)", path, err)
	}
	f, err := regular.Unnamed(dir)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w (set TMPDIR to another folder)", path, err)
	}
	lost, err := carry(context.Background(), src, p, writeData(f))
	if err == nil {
		err = f.Truncate(src.Size())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("unpack %s: %w", path, err)
	}
	p.end()
	tellLost(path, pipe.Join(lost))
	return f, nil
}

// dataOf returns how many bytes of a file are not known to be zeros.
func dataOf(src *packed.Source) (n uint64) {
	for off := int64(0); ; {
		start, end := src.NextData(off)
		if start >= end {
			return n
		}
		n += uint64(end - start)
		off = end
	}
}
