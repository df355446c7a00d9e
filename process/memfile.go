package process

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/mappedfile"
)

// FileState is what a mapped file tells of itself.
type FileState struct {
	Memory  bool      // it is in memory and on no disk: a memfd, shared anonymous or System V memory, a file in a tmpfs
	Pages   uint64    // number of pages that it has; valid where Memory is true
	Changed time.Time // time of the last write by a system call, first write to a page through a mapping, or removal
}

// FileState returns the state of the file behind a mapping. ok is false if there is none, it is
// on a server, or it cannot be opened.
func (v *View) FileState(m *procmem.Mapping) (state FileState, ok bool) {
	file, release := v.back.File(m)
	defer release()
	f, local := file.(mappedfile.Local) // a file on a server is not memory
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
