package search_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/search"
)

func startNeedles(t *testing.T) (*testproc.Proc, *process.View) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "needles")
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("PROCMEM_TEST_ALL") != "1" {
		t.Skip(err)
	}
	if msg, err := exec.Command("gcc", "-O1", "-o", program, "testdata/needles.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	p := testproc.StartCmd(t, exec.Command(program))
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proc.Close() })
	view, err := proc.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = view.Close() })
	return p, view
}

// where returns the addresses of all matches.
func where(t *testing.T, mem procmem.Memory, o search.Options, patterns ...search.Pattern) (at []procmem.Addr) {
	t.Helper()
	s, err := search.New(patterns, o)
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range s.Matches(t.Context(), mem) {
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, m.Start)
	}
	return at
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// Everything that a process has planted is found where it says, and nothing
// else: in pages, across them, and across mappings of all kinds.
func TestProcess(t *testing.T) {
	p, view := startNeedles(t)
	var want []procmem.Addr
	for key := range p.Facts {
		if name, ok := strings.CutPrefix(key, "needle "); ok {
			a, _ := p.Needle(t, name)
			want = append(want, a)
		}
	}
	slices.Sort(want)
	text := needle()
	before := resident(t, p.PID())
	for name, pattern := range map[string]search.Pattern{
		"literal": must(search.Literal([]byte(text), false)),
		"folded":  must(search.Literal([]byte(strings.ToUpper(text)), true)),
		"hex":     must(search.ParseHex(fmt.Sprintf("%x ?? %x", text[:5], text[6:]))),
		"regexp":  must(search.ParseRegexp(text[:8]+`[a-z'-]+`+text[len(text)-3:], false)),
	} {
		if got := where(t, view, search.Options{}, pattern); !slices.Equal(got, want) {
			t.Errorf("%s: found at %v; want %v", name, got, want)
		}
	}
	if after := resident(t, p.PID()); after > before+1024 { // 64 MiB are untouched
		t.Errorf("%d kB are resident; %d were before", after, before)
	}
	block := p.Range(t, "block")
	in := search.Options{In: []procmem.Range{block}}
	number := block.Start + 20*procmem.PageSize
	for _, c := range []struct {
		pattern search.Pattern
		want    procmem.Addr
	}{
		{must(search.ParseValue(search.U64, "0x1122334455667788", search.ValueOptions{})), number},
		{must(search.ParseValue(search.U32, "0x11223344", search.ValueOptions{})), number + 4},
		{must(search.PointerTo(procmem.Range{Start: number, End: number + 9}, search.ValueOptions{})), number + 64},
	} {
		if got := where(t, view, in, c.pattern); !slices.Equal(got, []procmem.Addr{c.want}) {
			t.Errorf("%v: found at %v; want %v", c.pattern, got, c.want)
		}
	}
}

// needle puts together what needles.c does.
func needle() string {
	hidden := []byte("i`xru`bj&r,oddemd,53")
	for i := range hidden {
		hidden[i] ^= 1
	}
	return string(hidden)
}

// resident returns what a process has in memory, in kB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nRss:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
