// Package regular opens regular files by names that somebody else may change at any moment,
// such as a process that is looked at. It also makes files without a name.
//
// A name is looked up once, without opening the file (O_PATH). What was found is checked, and
// then that is opened, whatever the name means by now. So a device, where opening has an
// effect, or a pipe, where it waits, is never opened.
package regular

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNotRegular reports that a name means a folder, a device, a pipe or a socket.
var ErrNotRegular = errors.New("not a regular file")

// Open opens a regular file for reading, by a name below the folder dir (unix.AT_FDCWD is the
// working directory). It returns what fstat(2) tells, too. It fails with ErrNotRegular.
func Open(dir int, name string) (*os.File, *unix.Stat_t, error) {
	return reopen(name, func() (int, error) { return unix.Openat(dir, name, unix.O_PATH|unix.O_CLOEXEC, 0) })
}

// OpenBelow is Open for a path below another root, which dir is. Symbolic links lead to where
// they lead there, never out of it.
func OpenBelow(dir int, name string) (*os.File, *unix.Stat_t, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	return reopen(name, func() (int, error) {
		const tries = 8 // a rename somewhere in the system may be in the way (EAGAIN)
		for try := 1; ; try++ {
			fd, err := unix.Openat2(dir, name, &how)
			if err != unix.EAGAIN || try == tries {
				return fd, err
			}
		}
	})
}

func reopen(name string, find func() (int, error)) (*os.File, *unix.Stat_t, error) {
	path, err := retry(find)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(path)
	st := new(unix.Stat_t)
	if err := unix.Fstat(path, st); err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, nil, fmt.Errorf("open %s: %w", name, ErrNotRegular)
	}
	fd, err := retry(func() (int, error) {
		return unix.Open(fmt.Sprintf("/proc/self/fd/%d", path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	// A /proc of another pid namespace would have had another file there.
	var opened unix.Stat_t
	if err := unix.Fstat(fd, &opened); err != nil || opened.Ino != st.Ino || opened.Dev != st.Dev {
		f.Close()
		return nil, nil, fmt.Errorf("open %s: /proc/self does not show this process", name)
	}
	return f, st, nil
}

func retry(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
