package target

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

func TestParseList(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "core.1", tinyCore)
	write(t, "core,2", tinyCore)
	write(t, "text", []byte("text"))
	const name = "procmem-lists"
	path := program(t, name)
	start := func() string { return strconv.Itoa(testproc.StartCmd(t, exec.Command(path)).PID()) }
	a := start()
	if l, err := ParseList(name); err != nil || l.Several() || !slices.Equal(l.Words, []string{name}) {
		t.Errorf("the name of one: %+v, %v", l, err)
	}
	if l, err := ParseList(name + ",core.1"); err != nil || !slices.Equal(l.Words, []string{a, "core.1"}) {
		t.Errorf("the name of one, and a core: %+v, %v", l, err)
	}
	b := start()
	both := []string{a, b}
	slices.SortFunc(both, func(x, y string) int { return atoi(t, x) - atoi(t, y) })
	for word, want := range map[string][]string{
		a:                      {a},
		a + "," + b:            {a, b},
		b + "," + a + "," + b:  {b, a},
		name:                   both,
		b + "," + name:         slices.Compact(append([]string{b}, slices.DeleteFunc(slices.Clone(both), func(s string) bool { return s == b })...)),
		"core,2":               {"core,2"},
		"./core,2":             {"./core,2"},
		"core.1,./core.1,self": {"core.1", "./core.1", "self"},
		"text":                 {"text"}, // Open says why it is no core
		"1,999999999":          {"1", "999999999"},
	} {
		l, err := ParseList(word)
		if err != nil || !slices.Equal(l.Words, want) || l.Word != word || l.All || l.Several() != (len(want) > 1) {
			t.Errorf("%s: %+v, %v; want %v", word, l, err, want)
		}
	}
	for word, want := range map[string]error{"": ErrSyntax, ",": ErrSyntax, "1,": ErrSyntax, ",1": ErrSyntax, "1,,2": ErrSyntax,
		"1,no-process-has-this": process.ErrNoProcess} {
		if l, err := ParseList(word); !errors.Is(err, want) || len(l.Words) > 0 {
			t.Errorf("%q: %+v, %v", word, l, err)
		}
	}
	for _, word := range []string{a + "," + b, name, "all", "core.1," + a} {
		_, err := PID(word)
		if _, ok := errors.AsType[*ManyError](err); !ok || !strings.Contains(err.Error(), "\n  "+a+" "+path) && word != "all" {
			t.Errorf("PID(%s): %v", word, err)
		}
		if tgt, err := Open(word); !errors.As(err, new(*ManyError)) || tgt != nil {
			t.Errorf("Open(%s): %v, %v", word, tgt, err)
		}
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// All is every process that has memory, but not the caller.
func TestParseListAll(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	q := testproc.Start(t, testproc.Kids)
	p.Cmd(t, "zombie")
	l, err := ParseList("all")
	if err != nil || !l.All || !l.Several() {
		t.Fatal(l, err)
	}
	for _, want := range []int{p.PID(), q.PID()} {
		if !slices.Contains(l.Words, strconv.Itoa(want)) {
			t.Errorf("%d is missing", want)
		}
	}
	if slices.Contains(l.Words, strconv.Itoa(os.Getpid())) {
		t.Error("the caller is among them")
	}
	for _, w := range l.Words {
		q, err := process.Open(atoi(t, w))
		if err != nil {
			continue // it has ended
		}
		if st, err := q.Stat(); err == nil && (st.KernelThread() || st.PPID == p.PID() && st.Zombie()) {
			t.Errorf("%s has no memory", w)
		}
		q.Close()
	}
	one, err := ParseList("self,all")
	if err != nil || !one.All || one.Words[0] != "self" {
		t.Errorf("%+v, %v", one, err)
	}
}
