package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/search"
	"github.com/procmem/procmem/target"
)

// stderrOf returns what is printed to stderr meanwhile.
func stderrOf(t *testing.T, f func()) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stderr")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	was := os.Stderr
	os.Stderr = file
	defer func() { os.Stderr = was }()
	f()
	file.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A process that ends while it is searched, or before its turn, is told in one line, and the
// others are searched all the same. It is trouble if it was named, and counted where all are
// searched.
func TestEndsMeanwhile(t *testing.T) {
	for _, all := range []bool{true, false} {
		var words []string
		procs := map[int]*testproc.Proc{}
		for range 4 {
			p := testproc.Start(t, testproc.Kids)
			procs[p.PID()] = p
			words = append(words, strconv.Itoa(p.PID()))
		}
		end := func(word string) {
			pid, _ := strconv.Atoi(word)
			procs[pid].Kill()
			if _, err := procs[pid].Wait(); err != nil {
				t.Fatal(err)
			}
		}
		end(words[0])
		var looked []string
		var err error
		told := stderrOf(t, func() {
			err = eachTarget(target.List{Word: "all", Words: words, All: all}, asSearch, openMemory, func(o *opened) error {
				if o.Word == words[1] {
					end(words[1])
				}
				pattern, err := search.Literal([]byte("PATH="), false)
				if err != nil {
					return err
				}
				s, err := search.New([]search.Pattern{pattern}, search.Options{In: ordinary(o.maps)})
				if err != nil {
					return err
				}
				for _, err := range s.Matches(context.Background(), o.mem) {
					if err != nil {
						return onTarget(o.Target, err)
					}
				}
				looked = append(looked, o.Word)
				return nil
			})
		})
		if strings.Join(looked, ",") != strings.Join(words[2:], ",") {
			t.Errorf("searched %v of %v", looked, words)
		}
		lines, each := strings.Count(told, "\n"), strings.Contains(told, words[0]) && strings.Contains(told, words[1])
		if all && (lines != 1 || !strings.Contains(told, "2 processes that ended meanwhile")) || !all && (lines != 2 || !each) {
			t.Errorf("all %v: told %q", all, told)
		}
		if status, _ := errors.AsType[statusError](err); all && err != nil || !all && status != exitTrouble {
			t.Errorf("all %v: %v", all, err)
		}
	}
}

// What is no target's own ends the work.
func TestEachTargetStops(t *testing.T) {
	broken := errors.New("stdout is gone")
	n := 0
	open := func(word string) (pidOnly, error) { return 1, nil }
	err := eachTarget(target.List{Words: []string{"1", "2"}}, usual, open, func(pidOnly) error { n++; return broken })
	if !errors.Is(err, broken) || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
	err = eachTarget(target.List{Words: []string{"1", "2"}}, usual, open, func(pidOnly) error { n++; return statusError(exitMissing) })
	if err != statusError(exitMissing) || n != 3 {
		t.Errorf("%v after %d", err, n)
	}
}
