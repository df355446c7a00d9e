package process

import (
	"bytes"
	"io"
	"iter"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/sys"
)

// There are two ways to the pages that a process has. /proc/PID/mem is bound to one address
// space, reads what the process itself may not, and copies each page twice. process_vm_readv(2)
// takes half the time, and
//
//   - pins what it reads. For that the kernel gives the process a copy of each anonymous page
//     that it shares with its children (mm/gup.c, gup_must_unshare). That is memory that it did
//     not have before. So before a block is read that way, the pagemap is asked which of its
//     pages are the process's alone, or a file's. Of these nothing is copied.
//   - takes a pid. After an exec, that has another address space, and after the end of the
//     process it may be another process. So each call reads the address-space id, too. Its data
//     count if /proc/PID/mem has the same id.
//
// Two effects remain. If the process forks between the look and the read, the pages of one
// block, 2 MiB at most, are copied after all. And a page that was shared once may still be held
// without a mapping, by a list of the kernel or another process's swap entry. Then the process
// is given a copy in its place.

// rawMemory is the pages of a process, whatever is mapped there.
type rawMemory struct {
	tid int // of the thread whose memory it is: the process id while its leader lives
	mem *os.File
	pm  pagemap
	// Where to look whether pages may be pinned; 0 for none.
	spaceIDAt    procmem.Addr // address of 8 bytes that no other address space has
	forkSentinel procmem.Addr // address of the fork sentinel

	stopped bool
	tracer  func(func())
}

// minPinned is the size, in bytes, of a read from which the looks at a running process cost
// less than they save.
const minPinned = 32 << 10

// pages yields the runs of pages in r, a part of m, for reading. Pages that may be pinned have
// pageOwn.
func (rm *rawMemory) pages(m *procmem.Mapping, r procmem.Range) iter.Seq2[pageRun, error] {
	switch {
	case m.Perm&procmem.PermRead == 0, m.Flags&procmem.VMUffdMiss != 0:
		// Unreadable memory cannot be pinned, and that of a userfaultfd only once it was
		// served.
	case rm.stopped && exclusive(m):
		return rm.pm.runs(r, pageOwn)
	case rm.stopped, rm.spaceIDAt != 0 && r.Size() >= minPinned:
		return rm.pm.ownRuns(r, rm.pinning(exclusive(m)))
	}
	return rm.pm.runs(r, 0)
}

// pinning returns the function that is called before each look at pages. may says whether any
// page may be pinned. shared says whether there may be huge pages that another process has in
// part. exclusive says that there were none when the view was made.
func (rm *rawMemory) pinning(exclusive bool) func() (may, shared bool) {
	return func() (bool, bool) {
		if rm.stopped {
			return true, true
		}
		return rm.spaceIDAt != 0 && rm.pm.alone(rm.spaceIDAt), !exclusive || rm.forkSentinel != 0 && !rm.pm.alone(rm.forkSentinel)
	}
}

// exclusive reports whether no other process had pages of a mapping in its memory when the view
// was made.
func exclusive(m *procmem.Mapping) bool {
	return m.Usage != nil && m.Usage.SharedClean+m.Usage.SharedDirty == 0
}

// raw reads existing pages from the process itself.
func (rm *rawMemory) raw(state pageState, p []byte, a procmem.Addr) (int, error) {
	done := 0
	if state&pageOwn != 0 {
		done = rm.readPinned(p, a)
	}
	for done < len(p) {
		n, err := rm.readMem(p[done:], a+procmem.Addr(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readPinned reads with process_vm_readv and returns how many bytes it has read.
func (rm *rawMemory) readPinned(p []byte, a procmem.Addr) (done int) {
	for done < len(p) {
		n, err := rm.pinOnce(p[done:], uint64(a)+uint64(done))
		done += n
		if err != nil || n == 0 {
			break // /proc/PID/mem tells the reason
		}
	}
	return done
}

func (rm *rawMemory) pinOnce(p []byte, a uint64) (n int, err error) {
	if rm.stopped {
		privilege.Raised(func() { n, err = sys.ReadProcess(rm.tid, p, a) })
		return n, err
	}
	var id [spaceIDSize]byte
	privilege.Raised(func() { n, err = sys.ReadProcessInSpace(rm.tid, p, a, id[:], uint64(rm.spaceIDAt)) })
	if err != nil || !rm.spaceIDIs(id[:]) {
		return 0, err
	}
	return n, nil
}

// readWritten is View.ReadWritten.
func (rm *rawMemory) readWritten(p []byte, ranges []procmem.Range) (done int) {
	if rm.spaceIDAt == 0 || !rm.pm.alone(rm.spaceIDAt) || rm.forkSentinel != 0 && !rm.pm.alone(rm.forkSentinel) {
		return 0
	}
	var id [spaceIDSize]byte
	remote := make([]unix.RemoteIovec, 0, sys.MaxRanges)
	for some := range slices.Chunk(ranges, sys.MaxRanges-1) {
		remote = append(remote[:0], unix.RemoteIovec{Base: uintptr(rm.spaceIDAt), Len: spaceIDSize})
		size := 0
		for _, r := range some {
			remote = append(remote, unix.RemoteIovec{Base: uintptr(r.Start), Len: int(r.Size())})
			size += int(r.Size())
		}
		var n int
		var err error
		privilege.Raised(func() { n, err = sys.ReadProcessRanges(rm.tid, id[:], p[done:done+size], remote) })
		if err != nil || !rm.spaceIDIs(id[:]) {
			break
		}
		if done += n; n < size {
			break
		}
	}
	return done
}

// spaceIDSize is half of what the kernel puts at AT_RANDOM, in bytes. One of the halves is
// within a page.
const spaceIDSize = 8

// findSpaceID finds the address-space id: the random bytes that each program is given when it
// is executed (AT_RANDOM, getauxval(3)). If its page is shared with a child, reading it by the
// pid would leave a trace. The view then does without process_vm_readv.
func (rm *rawMemory) findSpaceID(auxv io.Reader) {
	b, err := readMemory(auxv)
	if err != nil {
		return
	}
	at := procfs.AuxvValue(b, procmem.ATRandom)
	if at%procmem.PageSize > procmem.PageSize-spaceIDSize {
		at += spaceIDSize
	}
	if at == 0 || !rm.pm.alone(procmem.Addr(at)) {
		return
	}
	rm.spaceIDAt = procmem.Addr(at)
	// The pid may be another process's by now.
	var id [spaceIDSize]byte
	n := 0
	privilege.Raised(func() { n, _ = sys.ReadProcess(rm.tid, id[:], at) })
	if n < spaceIDSize || id == [spaceIDSize]byte{} || !rm.spaceIDIs(id[:]) {
		rm.spaceIDAt = 0
	}
}

// findForkSentinel finds the fork sentinel: a page that the process wrote and may not write any
// more. A dynamic loader leaves such pages where it has relocated. It is shared as long as
// there is a child that has not executed a program. A program that is linked statically at a
// fixed address has no such page. It is assumed not to fork while it is read.
func (rm *rawMemory) findForkSentinel(maps []procmem.Mapping) {
	for i := range maps {
		m := &maps[i]
		if m.Perm == procmem.PermRead && m.HasFile() && m.Usage != nil && m.Usage.Anonymous > 0 {
			if rm.forkSentinel = rm.pm.firstAnonymous(m.Range); rm.forkSentinel != 0 {
				return
			}
		}
	}
}

// spaceIDIs reports whether the address space still exists and has this id.
func (rm *rawMemory) spaceIDIs(id []byte) bool {
	var now [spaceIDSize]byte
	n, err := rm.readMem(now[:], rm.spaceIDAt)
	return err == nil && n == len(now) && bytes.Equal(now[:], id)
}

// readMem reads /proc/PID/mem once.
func (rm *rawMemory) readMem(p []byte, a procmem.Addr) (n int, err error) {
	if uint64(a) > math.MaxInt64 {
		return 0, procmem.ErrUnreadable // [vsyscall] does not fit a file offset
	}
	read := func() { n, err = unix.Pread(int(rm.mem.Fd()), p, int64(a)) }
	read()
	if err == unix.EIO && rm.tracer != nil {
		rm.tracer(read)
	}
	switch {
	case err == unix.EINTR:
		return 0, nil
	case err == unix.EIO || err == unix.EFAULT:
		return 0, procmem.ErrUnreadable
	case err != nil:
		return 0, err
	case n == 0:
		return 0, procmem.ErrGone
	}
	return n, nil
}
