package fidelity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
)

// What becomes of the pages of a kind of mapping that nobody can read: a guard,
// and what is behind the end of a file, hold nothing, and are zeros in a core as
// they are in the kernel's and gcore's. What is there and is kept from us is
// missing, and is said to be.
var keptFromUs = []string{"uffd", "secret"}

// What is not in a core, since coredump_filter, the program or a file that
// holds the same says so.
var filtered = []string{"dontdump", "eof", "fileshared", "secret", "droppable", "hugeshared"}

// TestKinds asks the same of each kind of mapping by every method and command.
func TestKinds(t *testing.T) {
	testproc.HugePages(t, 2)
	p := testproc.StartCmd(t, zooCommand(t, testproc.Build(t, testproc.Zoo), "--nospin", "--hugeshared"))
	p.WaitBlocked(t, 8)
	for key, why := range p.Facts {
		if name, ok := strings.CutPrefix(key, "no "); ok {
			t.Logf("not tested, since the kernel does not have it here: %s: %s", name, why)
		}
	}
	k := kinds{p, hold(t, p.PID())}
	everyWay(t, p.PID(), func(t *testing.T, c *corefile) { k.checkCore(t, c, filtered) })
	for _, method := range append(methods, "live") {
		t.Run("all "+method, func(t *testing.T) {
			stoppedAgain(t, p.PID())
			k.checkCore(t, ourCore(t, p.PID(), "-a", "--method", method), nil)
		})
		t.Run("dump "+method, func(t *testing.T) {
			stoppedAgain(t, p.PID())
			k.checkDump(t, method)
		})
	}
	t.Run("read", k.checkRead)
	t.Run("search", k.checkSearch)
	t.Run("gcore", func(t *testing.T) {
		theirs, _ := theirCore(t, p.PID())
		for _, name := range []string{"guardfile", "guardshared"} {
			m := p.Map(t, name)
			got := make([]byte, procmem.PageSize)
			if _, err := theirs.ReadAt(got, m.Page(1)); err != nil || !zero(got) {
				t.Errorf("the guard of %s is not zeros: %v", name, err)
			}
		}
		ring := make([]byte, p.Ring(t, "aio").Size())
		if _, err := theirs.ReadAt(ring, p.Ring(t, "aio").Start); err != nil || zero(ring) {
			t.Errorf("gcore has no ring: %v", err)
		}
	})
}

type kinds struct {
	*testproc.Proc
	release func()
}

// want returns what a page is in a core or a dump that has its mapping.
func (k kinds) want(t *testing.T, m testproc.Map, i int) []byte {
	if !m.Readable(i) {
		return make([]byte, procmem.PageSize)
	}
	return k.Want(t, m, i)
}

// missing returns the ranges that are said to be missing of mappings that are
// not left out.
func (k kinds) missing(leftOut []string) (out []procmem.Range) {
	for _, m := range k.Maps() {
		for i := range m.Pages() {
			if m.Readable(i) || !slices.Contains(keptFromUs, m.Name) || slices.Contains(leftOut, m.Name) {
				continue
			}
			if n := len(out) - 1; n >= 0 && out[n].End == m.Page(i) {
				out[n].End += procmem.PageSize
				continue
			}
			out = append(out, procmem.Range{Start: m.Page(i), End: m.Page(i) + procmem.PageSize})
		}
	}
	slices.SortFunc(out, func(a, b procmem.Range) int { return int(int64(a.Start) - int64(b.Start)) })
	return out
}

func (k kinds) checkCore(t *testing.T, c *corefile, leftOut []string) {
	t.Helper()
	var missing []procmem.Range
	for _, m := range c.Report().Missing {
		missing = append(missing, m.Range)
	}
	if want := k.missing(leftOut); !slices.Equal(missing, want) {
		t.Errorf("missing %v; want %v", c.Report().Missing, want)
	}
	got := make([]byte, procmem.PageSize)
	for _, m := range k.Maps() {
		for i := range m.Pages() {
			_, err := c.ReadAt(got, m.Page(i))
			switch {
			case slices.Contains(leftOut, m.Name):
				if !errors.Is(err, procmem.ErrNotDumped) {
					t.Errorf("%s page %d: %v; want %v", m.Name, i, err, procmem.ErrNotDumped)
				}
			case errors.Is(err, procmem.ErrNotDumped) && m.Name == "none":
			case err == nil && !bytes.Equal(got, k.want(t, m, i)), err != nil && m.Readable(i):
				t.Errorf("%s page %d is something else: %v", m.Name, i, err)
			}
		}
	}
	for _, args := range [][]string{{"verify"}, {"info"}} {
		if out := run(t, procmemPath(), append(args, c.path)...); out.status != 0 {
			t.Errorf("%v: status %d\n%s%s", args, out.status, out.stdout, out.stderr)
		}
	}
}

func (k kinds) checkDump(t *testing.T, method string) {
	dir := filepath.Join(t.TempDir(), "dump")
	out := run(t, procmemPath(), "dump", "--method", method, "-o", dir, strconv.Itoa(k.PID()))
	if out.status != statusMissing {
		t.Errorf("status %d\n%s", out.status, out.stderr)
	}
	var index struct{ Missing []core.Missing }
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	var missing []procmem.Range
	for _, m := range index.Missing {
		missing = append(missing, m.Range)
	}
	if want := k.missing(nil); !slices.Equal(missing, want) {
		t.Errorf("missing %v; want %v", missing, want)
	}
	for _, m := range k.Maps() {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("0x%x-0x%x.bin", uint64(m.Start), uint64(m.End))))
		if errors.Is(err, os.ErrNotExist) {
			b, err = make([]byte, m.Size()), nil // no data
		}
		if err != nil || uint64(len(b)) != m.Size() {
			t.Errorf("%s: %d bytes, %v", m.Name, len(b), err)
			continue
		}
		for i := range m.Pages() {
			if !bytes.Equal(b[i*procmem.PageSize:][:procmem.PageSize], k.want(t, m, i)) {
				t.Errorf("%s page %d is something else", m.Name, i)
			}
		}
	}
}

// checkRead reads each mapping of a running process.
func (k kinds) checkRead(t *testing.T) {
	for _, m := range k.Maps() {
		var want []byte
		whole := true
		for i := range m.Pages() {
			if m.Readable(i) {
				want = append(want, k.Want(t, m, i)...)
			}
			whole = whole && m.Readable(i)
		}
		out := run(t, procmemPath(), "read", strconv.Itoa(k.PID()), m.Range.String(), "-f", "raw")
		refused := strings.Contains(out.stderr, procmem.ErrUnreadable.Error())
		if out.stdout != string(want) || (out.status == 0) != whole || refused == whole {
			t.Errorf("%s: status %d, %d bytes, %s", m.Name, out.status, len(out.stdout), out.stderr)
		}
	}
	if r := k.Ring(t, "aio"); !r.Empty() {
		out := run(t, procmemPath(), "read", strconv.Itoa(k.PID()), r.String(), "-f", "raw")
		if out.status != 0 || uint64(len(out.stdout)) != r.Size() {
			t.Errorf("the ring of io_setup: status %d, %d bytes, %s", out.status, len(out.stdout), out.stderr)
		}
	}
}

// checkSearch looks for a word of each page of each mapping, in the process and
// in its core.
func (k kinds) checkSearch(t *testing.T) {
	stoppedAgain(t, k.PID())
	c := ourCore(t, k.PID(), "-a")
	stamp, err := strconv.ParseUint(k.Fact(t, "stamp"), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range k.Maps() {
		for _, i := range []int{0, 1, 2} {
			if i >= m.Pages() {
				continue
			}
			at := m.Page(i) + 8*100
			for _, target := range []string{strconv.Itoa(k.PID()), c.path} {
				out := run(t, procmemPath(), "search", target, "--type", "u64", strconv.FormatUint(stamp+uint64(at), 10))
				if found := strings.Contains(out.stdout, at.String()); found != (m.Stamped(i) && m.Readable(i)) {
					t.Errorf("%s page %d of %s: found is %v\n%s", m.Name, i, target, found, out.stderr)
				}
			}
		}
	}
}
