package symbols

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/perfmap"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
)

// compiled names code in memory that is of no program file.
func (l *Lines) compiled(a procmem.Addr) []Line {
	i := procmem.FindMapping(l.table.maps, a)
	if l.debug.PID == 0 || i == len(l.table.maps) || !l.table.maps[i].Contains(a) || l.table.maps[i].Perm&procmem.PermExec == 0 {
		return nil
	}
	for {
		if m := l.perf.names; m != nil {
			if name, off, ok := m.Lookup(uint64(a)); ok {
				return []Line{{Function: name, Symbol: name, Offset: off}}
			}
		}
		if !l.readPerfMap() { // it grows while the process runs
			return nil
		}
	}
}

// maxPerfReads bounds how often the file is read: a process may let it grow for ever.
const maxPerfReads = 100

// readPerfMap reads the file if its size has changed, and reports whether it has.
func (l *Lines) readPerfMap() bool {
	if l.perf.reads == maxPerfReads {
		return false
	}
	f, err := openPerfMap(l.debug.PID)
	if err != nil || f.size == l.perf.size {
		if err == nil {
			f.Close()
		}
		return false
	}
	defer f.Close()
	l.perf.reads++
	l.perf.size, l.perf.names = f.size, perfmap.Read(f)
	return true
}

// openPerfMap opens the file in the mount namespace of the process, by the number that the
// process has in its own pid namespace. Anybody may put a file into /tmp: one that is neither of
// the process's user nor of root is not taken.
func openPerfMap(pid int) (*file, error) {
	text, err := privilege.ReadProc(pid, "status")
	if err != nil {
		return nil, err
	}
	status, err := procfs.ParseStatus(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	inner := pid
	if n := len(status.NSPID); n > 0 {
		inner = status.NSPID[n-1]
	}
	path := fmt.Sprintf("/tmp/perf-%d.map", inner)
	f, err := openWithin(path, func() (*file, error) { return openBelowRoot(pid, path) })
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && st.Uid != 0 && !slices.Contains(status.UID[:], st.Uid) {
		err = fmt.Errorf("%s is of another user", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
