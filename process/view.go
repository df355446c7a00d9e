package process

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/mappedfile"
	"github.com/procmem/procmem/internal/refusal"
)

// View is the memory of a process with its mappings as they were when the view was made. It is
// a procmem.Sparse and a procmem.Resident. Reading it does not change the target.
//
// Reading from a running process is not atomic. A mapping may go between two looks, which gives
// a fault. A page that goes between the look and the read may come into existence again. If the
// process forks there, it may be given copies of up to 2 MiB that it would otherwise share with
// the child.
type View struct {
	rawMemory
	maps []procmem.Mapping
	// spans is maps for reading. Neighbours that are read alike are one, so that a process with
	// many small mappings is not read page by page.
	spans []procmem.Mapping
	back  *mappedfile.Files
}

// View opens the memory of the process. It reads smaps, whose flags tell what may be read and
// how. Close must be called.
//
// Without the rights of a debugger, View fails with EACCES or EPERM (os.ErrPermission). The
// text of that error is the sentence of package access if the program imports that. For a
// zombie or a kernel thread, View fails with ESRCH.
func (p *Process) View() (v *View, err error) {
	err = p.withMemory(func(tid int, dir *os.File) error {
		v, err = p.viewOf(tid, dir)
		return err
	})
	return v, refusal.Of(p.pid, err)
}

func (p *Process) viewOf(tid int, dir *os.File) (*View, error) {
	mem, err := p.openIn(dir, "mem", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	pm, err := p.openIn(dir, "pagemap", unix.O_RDONLY)
	if err != nil {
		mem.Close()
		return nil, err
	}
	v := &View{rawMemory: rawMemory{tid: tid, mem: mem}}
	files := mappedfile.Process{PID: p.pid, Dir: dir, Mounts: p.lookAtMounts(), Held: func() bool { return v.stopped }, OnWait: p.onWait}
	v.back = mappedfile.New(files)
	v.pm.f = pm
	// With a number of another pid namespace, process_vm_readv would read from another process,
	// even if only to find that out.
	if auxv, err := p.openIn(dir, "auxv", unix.O_RDONLY); err == nil {
		if p.CheckNamespace() == nil {
			v.findSpaceID(auxv)
		}
		auxv.Close()
	}
	if v.maps, err = p.Smaps(); err != nil {
		v.Close()
		return nil, err
	}
	if len(v.maps) == 0 {
		v.Close()
		return nil, fmt.Errorf("read mappings: %w", unix.ESRCH)
	}
	v.maps = files.Unreachable(v.maps)
	v.spans = spansOf(v.maps)
	v.findForkSentinel(v.maps)
	return v, nil
}

// Follow replaces the mappings of the view by those that the process has by now. It must not be
// called while the view is read.
func (v *View) Follow(maps []procmem.Mapping) { v.maps, v.spans = maps, spansOf(maps) }

// spansOf merges neighbouring mappings of plain anonymous memory.
func spansOf(maps []procmem.Mapping) []procmem.Mapping {
	const special = procmem.VMIO | procmem.VMPFNMap | procmem.VMHugeTLB | procmem.VMUffdMiss
	plain := func(m *procmem.Mapping) bool {
		return !m.Shared() && !m.HasFile() && !m.Special() && m.Flags&special == 0
	}
	out := make([]procmem.Mapping, 0, len(maps))
	for i := range maps {
		m := &maps[i]
		if k := len(out) - 1; k >= 0 && out[k].End == m.Start && plain(m) && plain(&out[k]) &&
			out[k].Perm&procmem.PermRead == m.Perm&procmem.PermRead && untouched(m) == untouched(&out[k]) &&
			exclusive(m) == exclusive(&out[k]) {
			out[k].End = m.End
			continue
		}
		out = append(out, *m)
	}
	return out
}

// untouched reports whether a mapping is known to hold nothing.
func untouched(m *procmem.Mapping) bool {
	return m.Usage != nil && m.Usage.RSS+m.Usage.Swap+m.Usage.HugeTLB == 0
}

// AssumeStopped tells the view that all threads of the process are held still. Its address
// space then stays what it is, and nothing becomes shared. tracer runs a function on the thread
// that traces the target, and may be nil. Some kernels let no other thread read what the target
// itself may not (PROC_MEM_FORCE, 6.12).
func (v *View) AssumeStopped(tracer func(func())) {
	v.stopped = true
	v.tracer = tracer
}

// Close releases what the view holds. The target is not affected. The view must not be read
// after Close.
func (v *View) Close() error {
	v.back.Close()
	return errors.Join(v.mem.Close(), v.pm.f.Close())
}

// Mappings returns the mappings as they were when the view was made, with Flags and Usage,
// ascending.
func (v *View) Mappings() ([]procmem.Mapping, error) { return v.maps, nil }

// ReadAt implements procmem.Memory.
func (v *View) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	done := 0
	for done < len(p) {
		a := addr + procmem.Addr(done)
		i := procmem.FindMapping(v.spans, a)
		if i == len(v.spans) || a < v.spans[i].Start {
			until := procmem.Addr(math.MaxUint64)
			if i < len(v.spans) {
				until = v.spans[i].Start
			}
			return done, &procmem.FaultError{Addr: a, Err: procmem.ErrNotMapped, Until: until}
		}
		m := &v.spans[i]
		n, err := v.readMapping(m, p[done:done+int(min(uint64(len(p)-done), uint64(m.End-a)))], a)
		done += n
		if err != nil {
			return done, &procmem.FaultError{Addr: addr + procmem.Addr(done), Err: err}
		}
	}
	return done, nil
}

// readMapping reads a part of one mapping. The error belongs to the byte after the last one
// that was read.
func (v *View) readMapping(m *procmem.Mapping, p []byte, a procmem.Addr) (int, error) {
	switch {
	case m.Device():
		return 0, procmem.ErrDevice
	case m.Special():
		return v.raw(0, p, a)
	case m.Shared():
		f, release := v.back.File(m)
		defer release()
		if f != nil {
			n, err := v.readShared(f, m, p, a)
			if !errors.Is(err, errNoFileData) {
				return n, err
			}
		}
	}
	done := 0
	for run, err := range v.pages(m, procmem.Range{Start: a, End: a + procmem.Addr(len(p))}) {
		if err != nil {
			return done, err
		}
		// No page exists between the end of the last run and this one.
		if n, want := v.readAbsent(m, p, done, a, run.Start); n < want {
			return done + n, v.absentError(m)
		} else {
			done += n
		}
		end := min(uint64(run.End-a), uint64(len(p)))
		switch {
		case run.State&pageGuard != 0:
			return done, procmem.ErrUnreadable
		case run.State&pageZero != 0:
			clear(p[done:end])
		default:
			n, err := v.raw(run.State, p[done:end], a+procmem.Addr(done))
			if err != nil {
				return done + n, err
			}
		}
		done = int(end)
	}
	n, want := v.readAbsent(m, p, done, a, a+procmem.Addr(len(p)))
	if n < want {
		return done + n, v.absentError(m)
	}
	return done + n, nil
}

// readShared reads a part of shared memory from its file, up to the first guard. A guard hides
// the file's bytes in this mapping.
func (v *View) readShared(f mappedfile.File, m *procmem.Mapping, p []byte, a procmem.Addr) (int, error) {
	r := procmem.Range{Start: a, End: a + procmem.Addr(len(p))}
	for g, err := range v.pm.guards(r) {
		if err != nil || g.Start <= a {
			return 0, cmp.Or(err, procmem.ErrUnreadable)
		}
		n, err := readFile(f, m, p[:g.Start-a], a)
		return n, cmp.Or(err, procmem.ErrUnreadable)
	}
	return readFile(f, m, p, a)
}

// readAbsent fills p[done:] up to address to, where no page exists: from the file, or with the
// zeros that the first touch would give.
func (v *View) readAbsent(m *procmem.Mapping, p []byte, done int, a, to procmem.Addr) (n, want int) {
	from := a + procmem.Addr(done)
	if to <= from {
		return 0, 0
	}
	p = p[done:min(len(p), done+int(to-from))]
	switch {
	case m.Flags&procmem.VMUffdMiss != 0:
		return 0, len(p)
	case aioRing(m):
		n, _ := v.raw(0, p, from)
		return n, len(p)
	case m.Shared():
		return 0, len(p)
	case m.HasFile() && m.Flags&procmem.VMHugeTLB == 0:
		f, release := v.back.File(m)
		defer release()
		if f != nil {
			n, err := readFile(f, m, p, from)
			if !errors.Is(err, errNoFileData) {
				return n, len(p)
			}
		}
		if v.Remote(m) {
			return 0, len(p) // asking the server by way of the process would hold a lock of the process
		}
		// The file cannot be opened by us. Reading by way of the process maps a page of the
		// page cache, and makes none.
		n, _ := v.raw(0, p, from)
		return n, len(p)
	}
	clear(p)
	return len(p), len(p)
}

// Remote reports whether the file behind a mapping is, or may be, on a server. Asking that
// server may take a second or more, and may fail (ErrNoAnswer).
func (v *View) Remote(m *procmem.Mapping) bool { return v.back.Remote(m) }

// Served opens the file behind a mapping where it is on a server. served reports whether it is.
// f is nil if it cannot be opened. f may be read as long as the view is open, and fails if an
// answer takes too long.
func (v *View) Served(m *procmem.Mapping) (f interface {
	io.ReaderAt
	io.Closer
	Size() int64
}, served bool) {
	if !v.Remote(m) {
		return nil, false
	}
	file, _ := v.back.File(m)
	if file == nil {
		return nil, true
	}
	size, err := file.Size()
	if err != nil {
		return nil, true
	}
	return servedFile{file, size}, true
}

type servedFile struct {
	io.ReaderAt
	size int64
}

func (f servedFile) Size() int64 { return f.size }
func (servedFile) Close() error  { return nil }

// HasBacking reports whether the file behind a mapping can be read. The file then stays open as
// long as the view, whatever becomes of the mapping.
func (v *View) HasBacking(m *procmem.Mapping) bool {
	f, release := v.back.File(m)
	defer release()
	return f != nil
}

// aioRing reports whether a mapping is the ring of io_setup(2). Its file cannot be opened. All
// of its pages exist from the beginning, so reading one as the process would allocates none.
func aioRing(m *procmem.Mapping) bool { return m.Shared() && m.Path == "/[aio] (deleted)" }

// Unseen returns why those pages of a mapping cannot be read that the process has not touched:
// its file cannot be opened. The error has a remedy if there is one. Unseen returns nil if all
// pages can be read. Only shared mappings, and private ones of a file on a server, have such
// pages. To ask for those by way of the process would wait for the server, with a lock of the
// process held.
func (v *View) Unseen(m *procmem.Mapping) error {
	if !m.Shared() && !v.Remote(m) || m.Flags&procmem.VMUffdMiss != 0 || aioRing(m) || v.HasBacking(m) {
		return nil
	}
	return v.untouched(m)
}

var errMayLook = fmt.Errorf("%w (the capability CAP_CHECKPOINT_RESTORE allows to look without)", procmem.ErrUntouched)

// untouched returns why pages cannot be read that the process has not touched.
func (v *View) untouched(m *procmem.Mapping) error {
	if v.Remote(m) {
		return ErrNoAnswer
	}
	if v.back.Refused(m) {
		return errMayLook
	}
	return procmem.ErrUntouched
}

func (v *View) absentError(m *procmem.Mapping) error {
	if v.Remote(m) || m.Shared() && m.Flags&procmem.VMUffdMiss == 0 {
		return v.untouched(m)
	}
	return procmem.ErrUnreadable
}

// errNoFileData reports that the file cannot be read as a file (memfd_secret).
var errNoFileData = errors.New("file has no read")

// readFile reads what a mapping shows of its file. Bytes from the end of the file to the end of
// that page are zeros. Bytes beyond are a fault.
func readFile(f mappedfile.File, m *procmem.Mapping, p []byte, a procmem.Addr) (int, error) {
	off := m.Offset + uint64(a-m.Start)
	if off > math.MaxInt64-uint64(len(p)) {
		return 0, procmem.ErrUnreadable
	}
	n, err := f.ReadAt(p, int64(off))
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		if errors.Is(err, ErrNoAnswer) {
			return n, err
		}
		if n == 0 {
			return 0, errNoFileData
		}
		return n, procmem.ErrUnreadable
	}
	rest := int(-(off + uint64(n)) & uint64(basePage-1))
	if n == 0 {
		// All of p is beyond the end. Whether its first bytes belong to the last page depends
		// on where the file ends.
		size, err := f.Size()
		if err != nil {
			return 0, procmem.ErrUnreadable
		}
		last := uint64(baseDown(procmem.Addr(size) + basePage - 1))
		if off >= last {
			return 0, procmem.ErrUnreadable
		}
		rest = int(last - off)
	}
	if n+rest >= len(p) {
		clear(p[n:])
		return len(p), nil
	}
	clear(p[n : n+rest])
	return n + rest, procmem.ErrUnreadable
}

// Guards yields the guards of a mapping of a file.
func (v *View) Guards(m *procmem.Mapping) iter.Seq2[procmem.Range, error] {
	if !m.HasFile() || m.Special() {
		return func(func(procmem.Range, error) bool) {}
	}
	return v.pm.guards(m.Range)
}

// Present yields the ranges of pages inside r that exist in the process itself.
func (v *View) Present(r procmem.Range) iter.Seq2[procmem.Range, error] {
	return func(yield func(procmem.Range, error) bool) {
		for run, err := range v.pm.runs(r, 0) {
			if err == nil && run.State&pageGuard != 0 {
				continue
			}
			if !yield(run.Range.Intersect(r), err) || err != nil {
				return
			}
		}
	}
}
