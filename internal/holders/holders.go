// Package holders finds out who may write to a file that a process maps, or to memory that it
// shares.
//
// WritersOf finds other processes that have it, through a mapping or a descriptor. WriteCalls
// and HasRings tell whether the process itself may have written by system calls, which leave no
// trace in page tables.
//
// Not promised: that every way to a file is found. A descriptor may be in a message that nobody
// has received. A caller without the rights to look at a process does not see what it has.
//
// The package reads /proc and stops nobody. A process that does not answer is not waited for
// (package patient), nor is the server of a file.
package holders

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/descriptors"
	"github.com/procmem/procmem/internal/patient"
	"github.com/procmem/procmem/internal/privilege"
)

// ID identifies a file as /proc/PID/maps does.
type ID struct {
	Major, Minor uint32
	Inode        uint64
}

// Of returns the ID of the file of a mapping.
func Of(m *procmem.Mapping) ID { return ID{m.Major, m.Minor, m.Inode} }

// holder is a process that may write to a file.
type holder struct {
	pid        int
	mapped     bool // it maps it shared and writable
	descriptor bool // it has it open for writing
}

// answer is the result of find.
type answer struct {
	holders map[ID][]holder
	unseen  int // processes that could not be looked at
}

// find looks at the processes pids for writers to files. A process that ends meanwhile counts
// as one that has nothing.
func find(pids []int, files []ID) answer {
	f := finder{files: files}
	for _, id := range files {
		// As in maps (fs/proc/task_mmu.c, show_vma_header_prefix).
		f.fields = append(f.fields, fmt.Appendf(nil, " %02x:%02x %d ", id.Major, id.Minor, id.Inode))
	}
	out := answer{holders: make(map[ID][]holder)}
	out.unseen = patient.Ask(patient.Short, pids, func(pid int, step func()) (h found) {
		privilege.Raised(func() { h = f.look(pid, step) })
		return h
	}, func(pid int, h found) {
		if h.unseen {
			out.unseen++
		}
		for i, id := range files {
			if h.mapped[i] || h.open[i] {
				out.holders[id] = append(out.holders[id], holder{pid, h.mapped[i], h.open[i]})
			}
		}
	}) + out.unseen
	return out
}

// finder looks at one process after the other.
type finder struct {
	files  []ID
	fields [][]byte // device and inode, as in maps
}

// found is what a process has of the files.
type found struct {
	mapped, open []bool
	unseen       bool
}

func (f *finder) look(pid int, step func()) found {
	h := found{mapped: make([]bool, len(f.files)), open: make([]bool, len(f.files))}
	dir, err := os.OpenFile(privilege.ProcPath(pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return h // it has ended
	}
	defer dir.Close()
	maps, err := mapsOf(dir)
	if err != nil {
		h.unseen = !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) // it has ended
		return h
	}
	if len(maps) == 0 {
		return h // a kernel thread, or a zombie
	}
	step()
	f.mappings(maps, h.mapped)
	h.unseen = !f.descriptors(dir, step, h.open)
	return h
}

// mapsOf reads the text of maps of the process with a folder. A leader that has exited has
// none, but its threads do.
func mapsOf(dir *os.File) ([]byte, error) {
	text, err := readAt(dir, "maps")
	if err == nil && len(text) > 0 || !severalThreads(dir) {
		return text, err
	}
	task, terr := privilege.OpenAt(dir, "task", unix.O_RDONLY|unix.O_DIRECTORY)
	if terr != nil {
		return text, err
	}
	defer task.Close()
	names, _ := task.Readdirnames(maxDead)
	for _, tid := range names {
		if text, err := readAt(task, tid+"/maps"); err == nil && len(text) > 0 {
			return text, nil
		}
	}
	return text, err
}

// maxDead is the number of threads that are asked for their maps.
const maxDead = 16

// severalThreads reports whether a process has more than one thread. The folder of the threads
// has two links, and one for each.
func severalThreads(dir *os.File) bool {
	var st unix.Stat_t
	return unix.Fstatat(int(dir.Fd()), "task", &st, 0) == nil && st.Nlink > 3
}

// mappings looks for the files in the text of maps.
func (f *finder) mappings(maps []byte, mapped []bool) {
	for i, field := range f.fields {
		for rest := maps; ; {
			k := bytes.Index(rest, field)
			if k < 0 {
				break
			}
			line := rest[bytes.LastIndexByte(rest[:k], '\n')+1:]
			if _, perm, _ := bytes.Cut(line, []byte(" ")); len(perm) > 4 && perm[1] == 'w' && perm[3] == 's' {
				mapped[i] = true
				break
			}
			rest = rest[k+len(field)-1:]
		}
	}
}

// descriptors looks for the files among the open ones, and reports whether it could look at
// all. It asks about the inode first, by fdinfo, which waits for no server.
func (f *finder) descriptors(dir *os.File, step func(), open []bool) (all bool) {
	err := descriptors.Walk(dir, step, func(d descriptors.Descriptor) bool {
		if link, err := d.Link(); err != nil || !strings.HasPrefix(link, "/") {
			return true // a socket, a pipe
		}
		text, err := d.Info()
		if err != nil {
			return true
		}
		inode, writable := parseInfo(text)
		if !writable || inode != 0 && !slices.ContainsFunc(f.files, func(id ID) bool { return id.Inode == inode }) {
			return true
		}
		st, err := d.Stat()
		if err != nil {
			return true
		}
		for i, id := range f.files {
			if id == (ID{unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino}) {
				open[i] = true
			}
		}
		return true
	})
	return err == nil
}

// parseInfo returns the inode of a descriptor, 0 if the kernel does not tell, and whether it
// may be written to.
func parseInfo(text []byte) (inode uint64, writable bool) {
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		value = bytes.TrimSpace(value)
		switch string(name) {
		case "flags":
			flags, _ := strconv.ParseUint(string(value), 8, 64)
			writable = flags&unix.O_ACCMODE != unix.O_RDONLY && flags&unix.O_PATH == 0
		case "ino": // of Linux 5.15
			inode, _ = strconv.ParseUint(string(value), 10, 64)
		}
	}
	return inode, writable
}

// maxText bounds what is read of one file.
const maxText = 64 << 20

func readAt(dir *os.File, name string) ([]byte, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText))
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = e.Err
	}
	return text, err
}
