package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/units"
)

// unpackUnnamed returns a file without a name that holds the plain bytes of src, with holes. It
// ends with the last program that has it open.
func unpackUnnamed(src *packed.Source, path string, p *progress) (*os.File, error) {
	if f := src.File(); f != nil { // opening it has unpacked it already
		return f, nil
	}
	f, err := writeUnnamed(src, path, os.TempDir(), p)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", path, elsewhere(err))
	}
	return f, nil
}

func writeUnnamed(src *packed.Source, path, dir string, p *progress) (*os.File, error) {
	none := func() (uint64, error) { return 0, nil } // dataOf leaves the zeros out
	if _, err := sink.Fit(filepath.Join(dir, "core"), dataOf(src), uint64(src.Size()), none); err != nil {
		return nil, err
	}
	f, err := regular.Unnamed(dir)
	if err != nil {
		return nil, err
	}
	lost, err := carry(context.Background(), src, p, writeData(f))
	if err == nil {
		err = f.Truncate(src.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	p.end()
	tellLost(path, pipe.Join(lost))
	return f, nil
}

// elsewhere adds to an error of the temporary file what to do.
func elsewhere(err error) error {
	full, ok := errors.AsType[*sink.NoRoomError](err)
	switch {
	case ok && full.Limit, errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%w: raise the limit on file sizes with ulimit -f", err)
	case ok && full.Err == nil:
		return fmt.Errorf("it takes %s, and %s is free in %s: set TMPDIR to another folder",
			units.Size(full.Need), units.Size(full.Have), filepath.Dir(full.Path))
	}
	return fmt.Errorf("%w: set TMPDIR to another folder", err)
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
