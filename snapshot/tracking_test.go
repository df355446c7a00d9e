package snapshot

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// Shared memory that is too large for the pause is tracked, in all of its mappings, and is as
// it is at the pause. (The oracle is the process itself, in which nothing goes on.)
func TestSharedChanges(t *testing.T) {
	for i, c := range []struct {
		name, prepare, change string
		torn                  bool // and told
		unseen                bool // what was written, which is not told where torn is not
	}{
		{name: "nothing"},
		{name: "write", change: "zero memfd 5 3"},
		{name: "write, and drop from the page tables", change: "zero memfd 5 3; drop memfd"},
		{name: "write all of a page table, and drop it", change: "zero memfd 0 1024; drop memfd"},
		{name: "drop from the page tables", change: "drop memfd 0 2000"},
		{name: "punch", change: "punch memfd 100 50"},
		{name: "punch and write", change: "punch memfd 100 50; touch memfd 120 3"},
		{name: "write a hole", prepare: "punch memfd 100 50", change: "touch memfd 120 3"},
		{name: "write a hole, and drop it", prepare: "punch memfd 100 50", change: "touch memfd 120 3; drop memfd"},
		{name: "punch and write holes, in equal parts", prepare: "punch memfd 100 50", change: "punch memfd 300 50; touch memfd 100 50; drop memfd"},
		{name: "move", change: "move memfd"},
		{name: "unmap a part", change: "unmap memfd 100 5000"},
		{name: "map anonymous memory there", change: "remap memfd 100 5000"},
		{name: "protect", change: "protect memfd r"},
		{name: "twice", prepare: "alias memfd again"},
		{name: "write to the second mapping", prepare: "alias memfd again", change: "zero again 7"},
		{name: "write to both", prepare: "alias memfd again", change: "zero memfd 3; zero again 7"},
		{name: "write to the second, which had dropped it", prepare: "alias memfd again; drop again", change: "zero again 7"},
		{name: "write to the second, and drop it there", prepare: "alias memfd again", change: "zero again 7; drop again"},
		{name: "punch by the second", prepare: "alias memfd again", change: "punch again 7 3"},
		{name: "write to a second that is new", change: "alias memfd again; zero again 7"},
		{name: "write to a second that is unmapped", prepare: "alias memfd again", change: "zero again 7; unmap again", unseen: true},
		{name: "system call", prepare: "open memfd", change: "pwrite memfd 9", torn: true, unseen: true},
		{name: "written while it is open", prepare: "open memfd", change: "zero memfd 9", torn: true},
		{name: "open", prepare: "open memfd"},
	} {
		if testing.Short() && i%8 != 0 {
			continue
		}
		for _, when := range []string{"before the pause", "between rounds"} {
			t.Run(c.name+" "+when, func(t *testing.T) {
				p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,memfd", "--memfd", "40M")
				mem := p.Map(t, "memfd").Range
				ranges := map[string]procmem.Range{"memfd": mem}
				do := func(commands string) {
					for command := range strings.SplitSeq(commands, "; ") {
						words := strings.Fields(command)
						if len(words) == 0 {
							continue
						}
						r := ranges[words[1]]
						got := p.Cmd(t, "%s", command)
						switch words[0] {
						case "alias", "move":
							at, err := procmem.ParseAddr(got)
							if err != nil {
								t.Fatal(err)
							}
							r = procmem.Range{Start: at, End: at + procmem.Addr(r.Size())}
							ranges[words[len(words)-1]] = r
						case "unmap":
							if len(words) == 2 {
								delete(ranges, words[1])
							}
						}
					}
				}
				do("touch memfd; " + c.prepare)
				cp := beginCopying(t, p, Options{})
				if cp.f.shared == nil {
					t.Fatalf("it is not tracked; torn: %v", cp.s.Torn)
				}
				do(c.change)
				if when == "between rounds" {
					var err error
					if cp.rest, err = cp.f.rounds(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				cp.freeze()
				if told := len(cp.s.Torn) > 0; told != c.torn {
					t.Errorf("torn: %v, %q", cp.s.Torn, reasons(cp.s))
				}
				if !c.unseen {
					for _, r := range ranges {
						checkAll(t, p, cp.s, r)
					}
					cp.checkStore()
				}
				if c.change == "" && cp.rest > 1<<20 {
					t.Errorf("%d bytes of what has not changed were left for the pause", cp.rest)
				}
			})
		}
	}
}

// What was copied is no other moment's: the pages that a core has are those of the
// pause, whatever is written later.
func TestSharedIsTheMoment(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon,memfd", "--memfd", "40M")
	p.Cmd(t, "touch memfd")
	s := takeBy(t, p, MethodPrecopy, Options{})
	if len(s.Torn) > 0 {
		t.Errorf("torn: %v", s.Torn)
	}
	p.Cmd(t, "zero memfd")
	m := p.Map(t, "memfd")
	for i := range m.Pages() {
		got := make([]byte, page)
		if _, err := s.ReadAt(got, m.Page(i)); err != nil || !bytes.Equal(got, p.Stamp(t, m.Page(i))) {
			t.Fatalf("page %d begins with %x, %v", i, got[:8], err)
		}
	}
}

func reasons(s *Snapshot) (out []string) {
	for _, t := range s.Torn {
		out = append(out, t.Reason)
	}
	return out
}

// Torn memory prints with its reason.
func TestTornPrints(t *testing.T) {
	if got := fmt.Sprint(Torn{procmem.Range{Start: 0x1000, End: 0x2000}, "shared"}); got != "0x1000-0x2000: shared" {
		t.Error(got)
	}
}
