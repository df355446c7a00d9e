package process

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
)

// FileState is what a mapped file tells of itself.
type FileState struct {
	Memory  bool      // it is memory and on no disk: a memfd, shared anonymous or System V memory, a file in a tmpfs
	Pages   uint64    // that it has, where it is memory
	Changed time.Time // when it was written by a system call, or pages for the first time through a mapping, or removed
}

// FileState returns the state of the file behind a mapping. ok is false where there
// is none, or it cannot be opened.
func (v *View) FileState(m *procmem.Mapping) (state FileState, ok bool) {
	file, release := v.back.file(m)
	defer release()
	f, local := file.(localFile) // what is on a server is not memory
	if !local {
		return state, false
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(int(f.Fd()), &fs) != nil || unix.Fstat(int(f.Fd()), &st) != nil {
		return state, false
	}
	return FileState{fs.Type == unix.TMPFS_MAGIC, uint64(st.Blocks) * 512 / procmem.PageSize, time.Unix(st.Ctim.Unix())}, true
}

// WriteCalls returns how often the process has written to files by write(2) and its
// like so far. What io_uring, AIO and splice(2) write is not counted.
func (p *Process) WriteCalls() (uint64, error) { return parse(p, "io", parseWriteCalls) }

// HasRings reports whether the process may write to files by io_uring or AIO. maps
// are its mappings.
func (p *Process) HasRings(maps []procmem.Mapping) bool {
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

// Ticks returns the time in the unit of StartTime.
func Ticks() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // cannot fail
	return uint64(t.Nano()) / uint64(time.Second/userHZ)
}

func isRing(dir *os.File, name string) bool {
	link := make([]byte, 64)
	var n int
	var err error
	privilege.Raised(func() { n, err = unix.Readlinkat(int(dir.Fd()), name, link) })
	return err == nil && strings.HasPrefix(string(link[:n]), "anon_inode:[io_uring]")
}

// parseWriteCalls reads how often a process has called write(2) and its like from
// the text of /proc/PID/io.
func parseWriteCalls(r io.Reader) (uint64, error) {
	b, err := readSmall(r)
	if err != nil {
		return 0, fmt.Errorf("parse io: %w", err)
	}
	for line := range bytes.Lines(b) {
		if value, ok := bytes.CutPrefix(line, []byte("syscw: ")); ok {
			return strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
		}
	}
	return 0, fmt.Errorf("parse io: no syscw in %d bytes", len(b))
}
