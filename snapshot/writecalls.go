package snapshot

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/process"
)

// writeCalls returns how often a process has called write(2) and similar calls so far, from
// /proc/PID/io. It does not count writes of io_uring, AIO and splice(2).
func writeCalls(p *process.Process) (uint64, error) {
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

// hasRings reports whether a process may write to files by io_uring or AIO. maps are its
// mappings. It reports true where the kernel does not tell.
func hasRings(p *process.Process, maps []procmem.Mapping) bool {
	for i := range maps {
		if strings.HasPrefix(maps[i].Path, "/[aio]") || strings.HasPrefix(maps[i].Path, "anon_inode:[io_uring]") {
			return true
		}
	}
	dir, err := p.Open("fd")
	if err != nil {
		return true
	}
	defer dir.Close()
	for {
		names, _ := dir.Readdirnames(1024)
		if len(names) == 0 {
			return false
		}
		if slices.ContainsFunc(names, func(name string) bool { return isRing(dir, name) }) {
			return true
		}
	}
}

func isRing(dir *os.File, name string) bool {
	link := make([]byte, 64)
	var n int
	var err error
	privilege.Raised(func() { n, err = unix.Readlinkat(int(dir.Fd()), name, link) })
	return err == nil && strings.HasPrefix(string(link[:n]), "anon_inode:[io_uring]")
}

// ticks returns the time since boot in the unit of process.Process.StartTime, which is 10 ms.
func ticks() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // it cannot fail
	return uint64(t.Nano()) / uint64(10*time.Millisecond)
}
