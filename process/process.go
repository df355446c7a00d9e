// Package process reads a live Linux process: its mappings, threads and memory, and which pages
// of it exist.
//
// Start with Open. Process.View gives a procmem.Memory. All access goes through one open
// /proc/PID folder. If the kernel gives the pid to another process meanwhile, that is an error,
// never a mix of two processes.
//
// Reading does not change the target. Pages that do not exist are not brought into existence,
// and a page that is in a file alone is read from the file. Swapped-out pages are read into
// memory again, which cannot be avoided. A running process changes while it is read: package
// snapshot holds it still.
//
// Three things can make a call wait. A server of a mapped file has 4 s for an answer
// (ErrNoAnswer). Memory that holds the arguments, or a long path, has 2 s (ErrBlocked). A
// thread of the process may hold the lock of its mappings, without a bound; OnWait tells of
// that.
//
// Sources are proc(5), Documentation/admin-guide/mm/pagemap.rst and process_vm_readv(2).
// Package internal/procfs parses the files, and internal/mappedfile opens what is mapped.
package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/mappedfile"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
	"github.com/procmem/procmem/internal/refusal"
)

// ErrNoProcess reports that no process has the pid.
var ErrNoProcess = errors.New("no such process")

// ErrNoAnswer reports that a file is on a server that did not answer in time, or that refuses
// the caller.
var ErrNoAnswer = mappedfile.ErrNoAnswer

// Process is a live process. It is safe for concurrent use.
type Process struct {
	pid   int
	start uint64
	dir   *os.File // /proc/PID, which stays this process's when the pid is used again

	onWait func(what string) // nil for none

	mu         sync.Mutex
	known      *mappedfile.Mounts // nil before they were read
	successors []*successor       // threads that stood in for a leader that has exited
	waiting    int                // calls of within that are running; they may last for ever
	closed     bool               // Close was called; the last waiting call releases the rest

	numbers sync.Once
	foreign error // why process and thread ids mean something else to system calls
}

// successor is a thread that lives on after the leader has exited. /proc/TID then shows the
// memory that /proc/PID has lost.
type successor struct {
	tid int
	dir *os.File
}

// Open opens process pid of this /proc. It fails with ErrNoProcess if there is none, or pid is
// a thread of another process. Close must be called.
//
// Open needs no rights, unless /proc hides the process (hidepid). What is read later does,
// above all View. It fails with EACCES or EPERM (os.ErrPermission) where the rights are
// missing.
func Open(pid int) (p *Process, err error) {
	// For a moment a process is not to be found, while a thread other than the first executes a
	// program.
	const tries = 4
	for try := 1; ; try++ {
		if p, err = openOnce(pid); try == tries || !errors.Is(err, ErrNoProcess) {
			return p, refusal.Of(pid, err)
		}
		time.Sleep(time.Millisecond)
	}
}

func openOnce(pid int) (*Process, error) {
	fail := func(err error) (*Process, error) {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			err = ErrNoProcess
		}
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	if pid <= 0 {
		return fail(ErrNoProcess)
	}
	dir, err := openFolder(pid)
	if err != nil {
		return fail(errors.Unwrap(err))
	}
	p := &Process{pid: pid, dir: dir}
	st, err := p.Stat()
	if err != nil {
		dir.Close()
		return fail(err)
	}
	// /proc/TID exists for every thread, though only leaders are listed.
	if status, err := p.Status(); err == nil && status.TGID != pid {
		dir.Close()
		return nil, fmt.Errorf("open process %d: it is a thread of process %d: %w", pid, status.TGID, ErrNoProcess)
	}
	p.start = st.StartTime
	return p, nil
}

// Close releases what Open holds. The target is not affected. No method must be called after
// Close.
func (p *Process) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed = true; p.waiting > 0 {
		return nil
	}
	return p.release()
}

func (p *Process) release() error {
	for _, h := range p.successors {
		h.dir.Close()
	}
	p.successors = nil
	return p.dir.Close()
}

// wait counts the waiting calls. The last one releases what was closed meanwhile.
func (p *Process) wait(more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting += more; p.waiting == 0 && p.closed {
		_ = p.release()
	}
}

// OnWait has f called where something takes long, with what it waits for. That is a file on a
// server that does not answer, or the mappings of a process that holds their lock. Any
// goroutine may call f, which must return at once. OnWait must be called before other methods.
func (p *Process) OnWait(f func(what string)) { p.onWait = f }

func (p *Process) tellWait(what string) {
	if p.onWait != nil {
		p.onWait(what)
	}
}

// PID returns the process id in the pid namespace of /proc.
func (p *Process) PID() int { return p.pid }

// StartTime returns field 22 of stat, in clock ticks since boot. Together with the pid it
// identifies the process.
func (p *Process) StartTime() uint64 { return p.start }

// bearer returns the id and the folder of a thread that has the memory of the process. That is
// the leader, or a thread that lives on where the leader has exited.
func (p *Process) bearer() (tid int, dir *os.File) {
	st, err := p.Stat()
	if err != nil || !st.Zombie() {
		return p.pid, p.dir
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.successors); n > 0 && alive(p.successors[n-1].dir) {
		return p.successors[n-1].tid, p.successors[n-1].dir
	}
	tids, _ := p.Threads()
	for _, tid := range tids {
		if st, err := p.ThreadStat(tid); tid == p.pid || err != nil || st.Zombie() {
			continue
		}
		dir, err := openFolder(tid)
		if err != nil {
			continue
		}
		if _, err := p.ThreadStat(tid); err != nil || !alive(dir) {
			dir.Close()
			continue
		}
		p.successors = append(p.successors, &successor{tid, dir})
		return tid, dir
	}
	return p.pid, p.dir
}

// withMemory runs f on the folder of a thread that has the memory of the process. It runs f
// again where f failed because the thread has ended or the mappings have changed, while the
// process lives on. A leader may exit. An exec ends all threads but one, which takes over the
// leader's id.
func (p *Process) withMemory(f func(tid int, dir *os.File) error) error {
	const tries = 20
	for try := time.Duration(1); ; try++ {
		tid, dir := p.bearer()
		err := f(tid, dir)
		if try == tries || !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, procfs.ErrOverlap) {
			return err
		}
		if _, dir := p.bearer(); !alive(dir) {
			return err
		}
		time.Sleep(try * 100 * time.Microsecond)
	}
}

// alive reports whether the thread behind a folder of /proc has its memory.
func alive(dir *os.File) bool {
	f, err := privilege.OpenAt(dir, "stat", unix.O_RDONLY)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := parseStat(f)
	return err == nil && !st.Zombie() && !st.KernelThread()
}

// Open opens a file below /proc/PID for reading, such as "maps" or "task/12/stat". It fails
// with ESRCH if the process has been reaped.
func (p *Process) Open(name string) (*os.File, error) {
	return p.openIn(p.dir, name, unix.O_RDONLY)
}

// OpenMem opens a file that shows the memory of the process for reading, such as "mem", "maps"
// or "pagemap". The file is the leader's, or that of a thread that lives on where the leader
// has exited. It stays that of this memory: after an exec it is empty. Errors are those of
// Open, and EACCES or EPERM without the rights of a debugger.
func (p *Process) OpenMem(name string) (f *os.File, err error) {
	err = p.withMemory(func(_ int, dir *os.File) error {
		f, err = p.openIn(dir, name, unix.O_RDONLY)
		return err
	})
	return f, err
}

// OpenClearRefs opens /proc/PID/clear_refs for writing, of the leader or of a thread that lives
// on. It fails with EACCES unless the caller is the user of the process or has CAP_DAC_OVERRIDE.
func (p *Process) OpenClearRefs() (f *os.File, err error) {
	err = p.withMemory(func(_ int, dir *os.File) error {
		f, err = p.openIn(dir, "clear_refs", unix.O_WRONLY)
		return err
	})
	return f, err
}

func (p *Process) openIn(dir *os.File, name string, flags int) (*os.File, error) {
	f, err := privilege.OpenAt(dir, name, flags)
	if err != nil {
		if (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)) && !p.Exists() {
			err = unix.ESRCH
		}
		return nil, fmt.Errorf("open /proc/%d/%s: %w", p.pid, name, err)
	}
	return f, nil
}

// openFolder opens /proc/PID.
func openFolder(pid int) (dir *os.File, err error) {
	privilege.Raised(func() { // the mount option hidepid hides the folders of other users
		dir, err = os.OpenFile(privilege.ProcPath(pid), unix.O_DIRECTORY|unix.O_PATH, 0)
	})
	return dir, err
}

// Exists reports whether the process has not been reaped. A zombie exists.
func (p *Process) Exists() bool {
	return unix.Faccessat(int(p.dir.Fd()), "stat", unix.F_OK, 0) == nil
}

// MayWrite reports whether the caller may write to a file below /proc/PID.
func (p *Process) MayWrite(name string) bool {
	return unix.Faccessat(int(p.dir.Fd()), name, unix.W_OK, unix.AT_EACCESS) == nil
}

// MayRead returns nil where the caller may read the memory of the process, and else the error
// of View. It asks the kernel, which has no effect on the process.
func (p *Process) MayRead() error {
	f, err := p.OpenMem("mem")
	if err != nil {
		return err
	}
	return f.Close()
}

// parse opens a file below /proc/PID and gives it to a parser.
func parse[T any](p *Process, name string, f func(io.Reader) (T, error)) (T, error) {
	file, err := p.Open(name)
	return parseFile(p, name, file, err, f)
}

// parseMem is parse for files that show the memory of the process.
func parseMem[T any](p *Process, name string, f func(io.Reader) (T, error)) (T, error) {
	var v T
	err := p.withMemory(func(_ int, dir *os.File) error {
		file, err := p.openIn(dir, name, unix.O_RDONLY)
		v, err = parseFile(p, name, file, err, f)
		return err
	})
	return v, err
}

func parseFile[T any](p *Process, name string, file *os.File, err error, f func(io.Reader) (T, error)) (v T, _ error) {
	if err != nil {
		return v, err
	}
	defer file.Close()
	privilege.Raised(func() { v, err = f(file) }) // of some files, the kernel checks the rights again when they are read
	if err != nil {
		return v, fmt.Errorf("/proc/%d/%s: %w", p.pid, name, err)
	}
	return v, nil
}

// Stat reads /proc/PID/stat. It needs no rights.
func (p *Process) Stat() (*Stat, error) { return parse(p, "stat", parseStat) }

// Status reads /proc/PID/status. It needs no rights.
func (p *Process) Status() (*Status, error) { return parse(p, "status", parseStatus) }

// Threads returns the ids of the threads, ascending, in the pid namespace of /proc.
func (p *Process) Threads() ([]int, error) {
	dir, err := p.Open("task")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list threads of process %d: %w", p.pid, err)
	}
	tids := make([]int, 0, len(names))
	for _, n := range names {
		if tid, err := strconv.Atoi(n); err == nil {
			tids = append(tids, tid)
		}
	}
	slices.Sort(tids)
	return tids, nil
}

// ThreadStat reads task/TID/stat. It needs no rights.
func (p *Process) ThreadStat(tid int) (*Stat, error) {
	return parse(p, "task/"+strconv.Itoa(tid)+"/stat", parseStat)
}

// CoredumpFilter returns the bits of /proc/PID/coredump_filter (core(5)).
func (p *Process) CoredumpFilter() (uint32, error) {
	return parseMem(p, "coredump_filter", func(r io.Reader) (uint32, error) {
		b, err := readMemory(r)
		if err != nil {
			return 0, err
		}
		return procfs.ParseCoredumpFilter(b)
	})
}

// readMemory is procfs.ReadSmall for a file that is empty if a thread has no memory left. It
// then fails with ESRCH.
func readMemory(r io.Reader) ([]byte, error) {
	b, err := procfs.ReadSmall(r)
	if err == nil && len(b) == 0 {
		err = unix.ESRCH
	}
	return b, err
}

// Auxv returns the auxiliary vector up to and with AT_NULL, in words of arch. It needs the
// rights of a debugger.
func (p *Process) Auxv(arch procmem.Arch) ([]byte, error) {
	b, err := parseMem(p, "auxv", readMemory)
	if err != nil {
		return nil, err
	}
	return procfs.ParseAuxv(b, arch)
}

// List returns the pids of all processes of this /proc, ascending.
func List() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var names []string
	privilege.Raised(func() { names, err = dir.Readdirnames(-1) })
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
