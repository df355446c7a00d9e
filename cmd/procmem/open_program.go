package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/symbols"
)

// program is the file that the process of a core executed. Its path is "" where it is not at
// hand.
type program struct {
	path  string
	found *symbols.Found
}

// findProgram finds the program of a core on this machine, and tells what is not as it should
// be. The core is not trusted: its name leads to a file with the same build id, or to none.
func findProgram(c *core.File, tell func(format string, args ...any)) *program {
	img := c.Image()
	m := firstOf(img.Mappings, img.Exe)
	if m == nil {
		tell("the core does not tell which program it is of: the debugger gets none")
		return &program{}
	}
	// A program that still runs can be had although its file has no name any more.
	found, err := symbols.Find(c, m, fmt.Sprintf("/proc/%d/exe", img.Process.PID))
	missing, _ := errors.AsType[*symbols.NotFoundError](err)
	switch {
	case err != nil && missing.BuildID == nil && isRegular(m.Path):
		tell("%v: %s may be another build", err, m.Path)
		return &program{path: m.Path}
	case err != nil:
		tell("%v; the debugger gets no program, and shows few names: put that build of it back, or install its debugging information", err)
		return &program{}
	case found.BuildID == nil:
		tell("%s has no build id: it may be another build than the one in the core, with the same layout", found.Path)
	case found.Path != img.Exe:
		tell("%s is not the program of this core any more: %s is, with the build id %x", img.Exe, found.Path, found.BuildID)
	}
	return &program{found.Path, found}
}

// firstOf returns the mapping that begins a file, or nil.
func firstOf(ms []procmem.Mapping, path string) *procmem.Mapping {
	for i := range ms {
		if path != "" && ms[i].Path == path && ms[i].Offset == 0 {
			return &ms[i]
		}
	}
	return nil
}

func isRegular(path string) bool {
	f, _, err := regular.Open(unix.AT_FDCWD, path)
	if err == nil {
		f.Close()
	}
	return err == nil
}

func (p *program) isGo() bool { return p.found != nil && p.found.IsGo() }

// argument returns the name by which the debugger opens the program. A debugger may take a name
// with odd characters for a command, so it gets a descriptor of that file in its place.
func (p *program) argument() string {
	if p.path == "" || plainName(p.path) {
		return p.path
	}
	f, _, err := regular.Open(unix.AT_FDCWD, p.path)
	if err != nil {
		return ""
	}
	return handDown(f)
}

// Close closes what was looked at.
func (p *program) Close() {
	if p.found != nil {
		p.found.Close()
	}
}

// handDown returns a name for an open file in a program that procmem becomes.
func handDown(f *os.File) string {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 3) // without close-on-exec
	if err != nil {
		fd = int(f.Fd()) // no descriptor is left: the debugger says that it finds no file
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}
