package privilege

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// ProcPath returns the path of a file below /proc/PID. It is for tasks whose
// folder is not open: the number may mean another task by now.
// process.Process has the folder of a process open.
func ProcPath(pid int, name ...string) string {
	return "/proc/" + filepath.Join(append([]string{strconv.Itoa(pid)}, name...)...)
}

// OpenProc opens a file below /proc/PID for reading, in Raised. It fails
// with an *os.PathError.
func OpenProc(pid int, name string) (f *os.File, err error) {
	Raised(func() { f, err = os.Open(ProcPath(pid, name)) })
	return f, err
}

// ReadProc returns the content of a file below /proc/PID, read in Raised.
func ReadProc(pid int, name string) (b []byte, err error) {
	Raised(func() { b, err = os.ReadFile(ProcPath(pid, name)) })
	return b, err
}

// StatProc is stat(2) of a file below /proc/PID, in Raised.
func StatProc(pid int, name string) (st unix.Stat_t, err error) {
	Raised(func() { err = unix.Stat(ProcPath(pid, name), &st) })
	return st, err
}
