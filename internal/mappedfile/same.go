package mappedfile

import (
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
)

// leadsTo reports whether the path of a mapped file leads to it, or to a file with the same
// build id. dir is /proc/PID. buildID returns the build id of the mapped file, or nil.
//
// It compares with the file that has the name here: in the mount namespace and below the root
// of this process. A debugger that reads a core looks for it there.
func leadsTo(dir *os.File, m *procmem.Mapping, buildID func() []byte) bool {
	var named unix.Stat_t
	if !strings.HasPrefix(m.Path, "/") || unix.Stat(m.Path, &named) != nil {
		return false
	}
	return same(dir, m, &named) || named.Mode&unix.S_IFMT == unix.S_IFREG && hasBuildID(m.Path, buildID())
}

// same reports whether a file is the mapped one. The device in maps may differ from that of
// stat(2) (btrfs, overlayfs), so stat is used for both, as far as that is allowed.
func same(dir *os.File, m *procmem.Mapping, named *unix.Stat_t) bool {
	for _, link := range []string{mapFile(m), "root" + m.Path} {
		var (
			st  unix.Stat_t
			err error
		)
		look := func() { err = unix.Fstatat(int(dir.Fd()), link, &st, 0) }
		if link == mapFile(m) {
			privilege.Raised(look)
		} else {
			look() // what the target names is looked at with the rights of the user
		}
		if err == nil && (link == mapFile(m) || st.Ino == m.Inode) {
			return st.Dev == named.Dev && st.Ino == named.Ino
		}
	}
	return named.Ino == m.Inode && named.Dev == unix.Mkdev(m.Major, m.Minor)
}

// hasBuildID reports whether the file of that name has a build id. id may be nil, for none.
func hasBuildID(name string, id []byte) bool {
	if id == nil {
		return false
	}
	named, err := os.OpenFile(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer named.Close()
	return bytes.Equal(id, buildID(named))
}
