package symbols

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elffile"
)

// Found is a file of this machine that is the one in a core. Close must be called.
type Found struct {
	File
	// Path is a name by which the file was there.
	Path string
	// BuildID is the build id of the file. It is nil where neither the file nor the core has
	// one. Then their program headers are equal, which a file of another build may have, too.
	BuildID []byte
}

// IsGo reports whether the file is a program written in Go.
func (f *Found) IsGo() bool {
	e, err := elffile.Open(f, f.Size())
	return err == nil && e.HasSection(".go.buildinfo")
}

// NotFoundError reports that no file of this machine is known to be the one in a core.
type NotFoundError struct {
	// Path is the name in the core.
	Path string
	// BuildID is what was looked for. It is nil where the core does not hold it.
	BuildID []byte
	// Err says what is wrong with the file at Path.
	Err error
}

func (e *NotFoundError) Error() string {
	if e.BuildID == nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("no file with the build id %x is at hand: %v", e.BuildID, e.Err)
}

func (e *NotFoundError) Unwrap() error { return e.Err }

// Find finds the file that m begins in a core, with the memory mem. It looks at the path of m,
// then by build id where distributions put programs, then at the paths in also. It fails with
// a *NotFoundError.
func Find(mem procmem.Memory, m *procmem.Mapping, also ...string) (*Found, error) {
	want, err := identityIn(mem, m)
	if err != nil {
		return nil, &NotFoundError{Path: m.Path, Err: err}
	}
	var first error
	for _, path := range append(paths(m.Path, want.buildID), also...) {
		f, err := openInTime(path)
		if err == nil {
			var is identity
			if is, err = fileIdentity(f); err == nil && is.equal(want) {
				return &Found{f, path, want.buildID}, nil
			}
			f.Close()
			err = fmt.Errorf("%s is another file", path)
		}
		first = cmp.Or(first, err)
	}
	return nil, &NotFoundError{m.Path, want.buildID, first}
}

// identityIn reads the identity of the file that m begins in a core.
func identityIn(mem procmem.Memory, m *procmem.Mapping) (identity, error) {
	const longest = 128 // bytes of a build id; those of linkers have 20, those of Go 83
	if !strings.HasPrefix(m.Path, "/") || m.Offset != 0 {
		return identity{}, errNoFile
	}
	id, err := mappedIdentity(mem, m)
	if err != nil || len(id.buildID) > longest {
		return identity{}, fmt.Errorf("the core does not hold what tells one build of %s from another", m.Path)
	}
	return id, nil
}

// paths returns where a file may be: its path, and where distributions put programs and
// libraries by build id.
func paths(path string, buildID []byte) []string {
	all := []string{strings.TrimSuffix(path, " (deleted)")}
	if len(buildID) < 2 {
		return all
	}
	for _, dir := range []string{"/usr/lib/debug/.build-id", "/usr/lib/.build-id"} {
		all = append(all, fmt.Sprintf("%s/%x/%x", dir, buildID[:1], buildID[1:]))
	}
	return all
}
