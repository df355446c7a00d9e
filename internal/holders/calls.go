package holders

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/descriptors"
	"github.com/procmem/procmem/process"
)

// WriteCalls returns how often a process has called write(2) and similar calls so far, from
// /proc/PID/io. It does not count writes of io_uring, AIO and splice(2). It fails if the kernel
// does not let this process read that file.
func WriteCalls(p *process.Process) (uint64, error) {
	f, err := p.Open("io")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return 0, fmt.Errorf("read io: %w", err)
	}
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(line, []byte("syscw: ")); ok {
			return strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
		}
	}
	return 0, fmt.Errorf("parse io: no syscw in %d bytes", len(text))
}

// HasRings reports whether a process may write to files by io_uring or AIO. maps are its
// mappings. It reports true if the kernel does not tell.
func HasRings(p *process.Process, maps []procmem.Mapping) bool {
	for i := range maps {
		if strings.HasPrefix(maps[i].Path, "/[aio]") || strings.HasPrefix(maps[i].Path, "anon_inode:[io_uring]") {
			return true
		}
	}
	dir, err := p.Open(".")
	if err != nil {
		return true
	}
	defer dir.Close()
	found := false
	err = descriptors.Walk(dir, nil, func(d descriptors.Descriptor) bool {
		link, err := d.Link()
		found = err == nil && strings.HasPrefix(link, "anon_inode:[io_uring]")
		return !found
	})
	return found || err != nil
}
