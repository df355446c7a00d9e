package mappedfile

import (
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
)

// reachPatience bounds how long file systems may take to tell which files the paths of all
// mappings lead to. A server may never answer. Paths that are not known by then count as right.
const reachPatience = 2 * time.Second

// namedFile is a file by one of its names in maps, with the places where it is mapped.
type namedFile struct {
	at []int // indexes of the mappings
}

// Unreachable returns mappings of the process with Unreachable set where it is true. It takes
// reachPatience at most, or what a disk takes for its part. It does not change maps.
func (p Process) Unreachable(maps []procmem.Mapping) []procmem.Mapping {
	files := namedFiles(maps)
	if len(files) == 0 {
		return maps
	}
	dir, err := privilege.OpenAt(p.Dir, ".", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return maps
	}
	p.Dir = dir
	r := reach{dir: dir, maps: maps, mounts: p.Mounts, here: mountsHere(), reader: &fileReader{of: p}}
	type answer struct {
		file        int
		unreachable bool
	}
	answers := make(chan answer, len(files))
	go func() { // goes on where servers do not answer
		defer r.dir.Close()
		defer r.reader.close()
		r.all(files, func(i int, yes bool) { answers <- answer{i, !yes} })
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
	// The goroutine may still be looking at the mappings.
	maps = slices.Clone(maps)
	for i := range files {
		for _, k := range files[i].at {
			maps[k].Unreachable = unreachable[i]
		}
	}
	return maps
}

// namedFiles returns the regular files behind mappings, as far as the mappings tell.
func namedFiles(maps []procmem.Mapping) (files []namedFile) {
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
			files = append(files, namedFile{})
		}
		files[k].at = append(files[k].at, i)
	}
	return files
}

// reach compares mapped files with those that have their names here: in the mount namespace and
// below the root of this process. A debugger that reads the core looks for them there.
type reach struct {
	dir          *os.File // /proc/PID, or that of a thread that lives on
	maps         []procmem.Mapping
	mounts, here Mounts      // of the process, and of this one
	reader       *fileReader // of files that may be on a server
}

// all tells of each file whether it is reachable. Files on servers come last. Once a server
// does not answer, the remaining files are not asked for.
func (r *reach) all(files []namedFile, tell func(file int, yes bool)) {
	var served []int
	for i, f := range files {
		m := &r.maps[f.at[0]]
		if r.mounts.Remote(m) || r.served(m.Path) {
			served = append(served, i)
			continue
		}
		tell(i, r.reachable(f))
	}
	for _, i := range served {
		m := &r.maps[files[i].at[0]]
		a, _, err := r.reader.ask(question{Op: 'p', Map: *m}, m.Path, reachPatience)
		tell(i, err != nil || a.Yes)
		if err != nil {
			r.reader.lost = maxLost
		}
	}
}

// served reports whether a path leads, or may lead, to a file system here that has a server. A
// symbolic link in the path may lead anywhere.
func (r *reach) served(path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	if r.here.Below(path) || r.mounts.Below(path) {
		return true
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err == nil {
		unix.Close(fd)
	}
	return err == unix.ELOOP
}

// reachable reports whether the path of a file leads to it, or to a file with the same build
// id.
func (r *reach) reachable(f namedFile) bool {
	return leadsTo(r.dir, &r.maps[f.at[0]], func() []byte { return r.buildID(f) })
}

// buildID returns the build id of a mapped file, from the file or from its bytes in memory.
func (r *reach) buildID(f namedFile) []byte {
	if file := openHere(r.dir, &r.maps[f.at[0]]); file != nil {
		defer file.Close()
		return buildID(file)
	}
	mem, err := privilege.OpenAt(r.dir, "mem", unix.O_RDONLY)
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
