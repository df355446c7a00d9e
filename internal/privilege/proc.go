package privilege

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// ProcPath returns the path of a file below /proc/PID. It is for tasks whose folder is not
// open: the number may mean another task by now. process.Process has the folder of a process
// open.
func ProcPath(pid int, name ...string) string {
	return "/proc/" + filepath.Join(append([]string{strconv.Itoa(pid)}, name...)...)
}

// OpenProc opens a file below /proc/PID for reading, in Raised. It fails with an *os.PathError.
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

// OpenAt opens a file of /proc. It must not be used for what is behind the links root and cwd,
// because the target decides what is there.
func OpenAt(dir *os.File, name string, flags int) (f *os.File, err error) {
	Raised(func() {
		for {
			fd, oerr := unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC, 0)
			switch oerr {
			case nil:
				f = os.NewFile(uintptr(fd), dir.Name()+"/"+name)
				return
			case unix.EINTR:
			default:
				err = oerr
				return
			}
		}
	})
	return f, err
}

// ReadLink reads a link in a folder of /proc.
func ReadLink(dir *os.File, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n := 0
	var err error
	Raised(func() { n, err = unix.Readlinkat(int(dir.Fd()), name, buf) })
	return string(buf[:max(n, 0)]), err
}
