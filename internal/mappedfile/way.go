package mappedfile

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/regular"
)

// way is a way to the file behind a mapping: a link below /proc/PID, or a path below the root
// of the process.
type way struct {
	name string
	link bool
}

// open opens the file. It fails with ESTALE if that is not the file of the mapping.
func (w way) open(dir *os.File, inode uint64) (*os.File, error) {
	open := openPath
	if w.link {
		open = openLink
	}
	f, st, err := open(dir, w.name)
	if err != nil {
		return nil, err
	}
	if st.Ino != inode {
		f.Close()
		return nil, unix.ESTALE
	}
	return f, nil
}

// openAny tries all ways to the file behind a mapping, the best first, until open opens one. It
// gives up if a server does not answer.
func openAny[F any](dir *os.File, m *procmem.Mapping, open func(way) (F, error)) (F, error) {
	// map_files is exact, even for files without a name. It needs CAP_CHECKPOINT_RESTORE or
	// CAP_SYS_ADMIN.
	f, err := open(way{name: mapFile(m), link: true})
	goOn := func() bool { return err != nil && !errors.Is(err, ErrNoAnswer) }
	if goOn() && executable(dir) == m.Path { // works without a name, too, and without a capability
		f, err = open(way{name: "exe", link: true})
	}
	if goOn() && !m.Deleted() && strings.HasPrefix(m.Path, "/") {
		f, err = open(way{name: m.Path})
	}
	if goOn() && strings.HasPrefix(m.Path, "/memfd:") {
		f, err = openDescriptor(dir, open)
	}
	return f, err
}

// maxDescriptors bounds how many descriptors are looked at for one file.
const maxDescriptors = 4096

// openDescriptor opens a memfd that the process has open.
func openDescriptor[F any](dir *os.File, open func(way) (F, error)) (f F, err error) {
	fds, err := privilege.OpenAt(dir, "fd", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return f, err
	}
	defer fds.Close()
	names, _ := fds.Readdirnames(maxDescriptors)
	for _, name := range names {
		if !strings.HasPrefix(linkOf(dir, "fd/"+name), "/memfd:") {
			continue
		}
		if f, err = open(way{name: "fd/" + name, link: true}); err == nil || errors.Is(err, ErrNoAnswer) {
			return f, err
		}
	}
	return f, unix.ENOENT
}

// openHere opens the file behind a mapping in this process, which may wait for a server. It
// returns nil if no way leads to the file.
func openHere(dir *os.File, m *procmem.Mapping) *os.File {
	f, err := openAny(dir, m, func(w way) (*os.File, error) { return w.open(dir, m.Inode) })
	if err != nil {
		return nil
	}
	return f
}

// mapFile returns the name of the link to the mapped file below /proc/PID. Following it takes
// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
func mapFile(m *procmem.Mapping) string {
	return fmt.Sprintf("map_files/%x-%x", uint64(m.Start), uint64(m.End))
}

// openLink opens the file behind a link of /proc.
func openLink(dir *os.File, name string) (f *os.File, st *unix.Stat_t, err error) {
	privilege.Raised(func() { f, st, err = regular.Open(int(dir.Fd()), name) })
	return f, st, err
}

// executable returns the name of the executable as maps has it.
func executable(dir *os.File) string { return linkOf(dir, "exe") }

// linkOf returns the target of a link of /proc, or "" if the kernel does not tell.
func linkOf(dir *os.File, link string) string {
	name, err := privilege.ReadLink(dir, link)
	if err != nil {
		return ""
	}
	return name
}

// openPath opens a file as the process would, with the rights of the user, because the process
// decides what is there now.
func openPath(dir *os.File, path string) (*os.File, *unix.Stat_t, error) {
	root, err := privilege.OpenAt(dir, "root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	return regular.OpenBelow(int(root.Fd()), path)
}
