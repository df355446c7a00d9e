package process

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
)

// reachPatience bounds how long the file systems may take to tell which files
// the paths of all mappings lead to. A server may never answer; of what is not
// known by then it is taken that the path is right.
const reachPatience = 2 * time.Second

// mappedFile is a file by one of its names in maps, and where it is mapped.
type mappedFile struct {
	at []int // indexes of the mappings
}

// findUnreachable sets Unreachable in the mappings of a view.
func (v *View) findUnreachable(dir *os.File) {
	files := mappedFiles(v.maps)
	if len(files) == 0 {
		return
	}
	r := reach{maps: v.maps}
	var err error
	if r.dir, err = openAt(dir, ".", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return
	}
	type answer struct {
		file        int
		unreachable bool
	}
	answers := make(chan answer, len(files))
	go func() { // which may wait for a server for ever
		defer r.dir.Close()
		for i := range files {
			answers <- answer{i, !r.reachable(files[i])}
		}
	}()
	late := time.NewTimer(reachPatience)
	defer late.Stop()
	unreachable := make([]bool, len(files))
	for range files {
		select {
		case a := <-answers:
			unreachable[a.file] = a.unreachable
			continue
		case <-late.C:
		}
		break
	}
	// The goroutine looks at the mappings, if it is still there.
	maps := append([]procmem.Mapping(nil), v.maps...)
	for i := range files {
		for _, k := range files[i].at {
			maps[k].Unreachable = unreachable[i]
		}
	}
	v.maps = maps
}

// mappedFiles returns the regular files behind mappings, as far as the mappings
// tell.
func mappedFiles(maps []procmem.Mapping) (files []mappedFile) {
	type name struct {
		fileKey
		path string
	}
	known := map[name]int{}
	for i := range maps {
		m := &maps[i]
		device := m.Flags&(procmem.VMIO|procmem.VMPFNMap) != 0 ||
			strings.HasPrefix(m.Path, "/dev/") && !strings.HasPrefix(m.Path, "/dev/shm/")
		if !m.HasFile() || m.Special() || device {
			continue
		}
		n := name{fileKey{m.Major, m.Minor, m.Inode}, m.Path}
		k, ok := known[n]
		if !ok {
			k = len(files)
			known[n] = k
			files = append(files, mappedFile{})
		}
		files[k].at = append(files[k].at, i)
	}
	return files
}

// reach compares mapped files with those that have their names here: in the
// mount namespace and below the root of this process, where a debugger that
// reads the core looks for them.
type reach struct {
	dir  *os.File // of /proc, as of the process
	maps []procmem.Mapping
}

// reachable reports whether the path of a file leads to it, or to one with the
// same build id.
func (r *reach) reachable(f mappedFile) bool {
	m := &r.maps[f.at[0]]
	var named unix.Stat_t
	if !strings.HasPrefix(m.Path, "/") || unix.Stat(m.Path, &named) != nil {
		return false
	}
	return r.same(m, &named) || named.Mode&unix.S_IFMT == unix.S_IFREG && r.sameBuild(f, m.Path)
}

// same reports whether a file is the mapped one. The device that maps tells may
// be another than that of stat(2) (btrfs, overlayfs), so stat is asked for
// both, as far as that is allowed.
func (r *reach) same(m *procmem.Mapping, named *unix.Stat_t) bool {
	for _, link := range []string{mapFile(m), "root" + m.Path} {
		var (
			st  unix.Stat_t
			err error
		)
		look := func() { err = unix.Fstatat(int(r.dir.Fd()), link, &st, 0) }
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

// mapFile is the name of the link to the mapped file below /proc/PID. To follow
// it takes CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
func mapFile(m *procmem.Mapping) string {
	return fmt.Sprintf("map_files/%x-%x", uint64(m.Start), uint64(m.End))
}

// sameBuild reports whether the file of that name has the build id of the
// mapped one.
func (r *reach) sameBuild(f mappedFile, name string) bool {
	id := r.mappedBuildID(f)
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

// mappedBuildID returns the build id of a mapped file, from itself or from
// where it is in memory.
func (r *reach) mappedBuildID(f mappedFile) []byte {
	m := &r.maps[f.at[0]]
	b := backing{dir: r.dir}
	if file := b.openFile(m); file != nil {
		defer file.Close()
		return buildID(file)
	}
	mem, err := openAt(r.dir, "mem", unix.O_RDONLY)
	if err != nil {
		return nil
	}
	defer mem.Close()
	for _, k := range f.at {
		if m := &r.maps[k]; m.Offset == 0 && m.End < 1<<63 {
			return buildID(io.NewSectionReader(mem, int64(m.Start), int64(m.Size())))
		}
	}
	return nil
}
