package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
)

// Names are for people. A name that cannot be read costs nothing else.

// ErrBlocked reports that the kernel does not tell something in time. It waits for a lock on
// the memory of the process, or for a process that serves that memory.
var ErrBlocked = errors.New("it is not told in time: a thread of the process waits in the kernel with its memory locked, or nobody serves that memory")

const (
	// nameTime bounds the wait for a name.
	nameTime = 2 * time.Second
	// maxCmdline bounds the arguments, in bytes. A process may declare all of its memory to be
	// arguments (prctl(2), PR_SET_MM).
	maxCmdline = 1 << 20
)

// Exe returns the path of the executable, followed by " (deleted)" where its name is gone. It
// fails if the link cannot be read.
func (p *Process) Exe() (string, error) {
	var path string
	err := p.withMemory(func(_ int, dir *os.File) (err error) {
		path, err = privilege.ReadLink(dir, "exe")
		return err
	})
	if errors.Is(err, unix.ENAMETOOLONG) {
		return within(p, nameTime, p.longExe)
	}
	if err != nil {
		return "", fmt.Errorf("read link /proc/%d/exe: %w", p.pid, err)
	}
	return path, nil
}

// longExe returns the path of the executable where it is too long for a link. It is the name of
// the mapping that holds the program headers.
func (p *Process) longExe() (string, error) {
	auxv, err := parseMem(p, "auxv", readMemory)
	if err != nil {
		return "", err
	}
	ms, err := p.Mappings()
	if err != nil {
		return "", err
	}
	at := procmem.Addr(procfs.AuxvValue(auxv, procmem.ATPhdr))
	if i := procmem.FindMapping(ms, at); i < len(ms) && ms[i].Contains(at) && ms[i].HasFile() {
		return ms[i].Path, nil
	}
	return "", fmt.Errorf("read link /proc/%d/exe: %w", p.pid, unix.ENAMETOOLONG)
}

// base returns the last element of the path of an executable, or "" if there is none.
func base(exe string) string {
	name := filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	if name == "." || name == "/" {
		return ""
	}
	return name
}

// Cmdline returns the arguments, of which it reads the first MiB. It fails with ErrBlocked if
// they are in memory that cannot be read now.
func (p *Process) Cmdline() ([]string, error) {
	b, err := within(p, nameTime, func() ([]byte, error) {
		return parseMem(p, "cmdline", func(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxCmdline)) })
	})
	if errors.Is(err, ErrBlocked) {
		err = fmt.Errorf("read /proc/%d/cmdline: %w", p.pid, err)
	}
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

// within returns what f does, or ErrBlocked if f takes longer than d. In that case f goes on
// waiting in the kernel, on an OS thread that only the end of procmem ends.
func within[T any](p *Process, d time.Duration, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	p.wait(+1)
	go func() {
		v, err := f()
		p.wait(-1)
		done <- result{v, err}
	}()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-timer.C:
	}
	select {
	case r := <-done: // on a machine that was busy, both may be ready
		return r.v, r.err
	default:
		var zero T
		return zero, ErrBlocked
	}
}

// Descriptor returns what an open file descriptor of the process leads to: a path, or a name
// such as socket:[1234]. It needs the rights of a debugger.
func (p *Process) Descriptor(fd int) (string, error) { return p.readLink("fd/" + strconv.Itoa(fd)) }
