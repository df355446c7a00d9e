package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/target"
)

// ranking is how the exit statuses for several targets become one.
type ranking struct {
	failed int   // the status where a target could not be worked on
	order  []int // the first that some target has is that of all
}

// usual is the ranking of most commands.
var usual = ranking{exitFailed, []int{exitFailed, exitUsage, exitMissing, exitDone}}

// targetError is an error of one target, which is no reason to leave others out.
type targetError struct{ error }

func (e targetError) Unwrap() error { return e.error }

// lackError is an error of a target that lacks the memory which is to be looked at.
type lackError struct{ error }

func (e lackError) Unwrap() error { return e.error }

// lacking returns an error of resolving ranges. Bad syntax and bad patterns are not the target's.
func lacking(err error) error {
	_, usage := errors.AsType[usageError](err)
	absent := errors.Is(err, target.ErrNoMapping) || errors.Is(err, target.ErrNoSymbol)
	if err == nil || errors.Is(err, target.ErrSyntax) || usage && !absent {
		return err
	}
	return lackError{err}
}

// eachTarget opens the targets of a list one after the other, and works on them. What one target
// fails with is told, and the work goes on with the next.
func eachTarget[T io.Closer](l target.List, how ranking, open func(word string) (T, error), work func(T) error) error {
	r := results{ranking: how, all: l.All, seen: map[int]bool{}}
	for _, word := range l.Words {
		t, err := open(word)
		if err != nil {
			err = targetError{err}
		} else {
			err = work(t)
			t.Close()
		}
		switch {
		case errors.Is(err, errNoMore):
			return r.status()
		case !l.Several():
			return err
		}
		if err := r.add(word, err); err != nil {
			return err
		}
	}
	return r.status()
}

// splitTargets returns the words of a command line with what was between commas as words.
func splitTargets(words []string) ([]string, error) {
	var out []string
	for _, w := range words {
		parts, err := target.Split(w)
		if err != nil {
			return nil, err
		}
		out = append(out, parts...)
	}
	return out, nil
}

// errNoMore reports that the targets that follow are not wanted.
var errNoMore = errors.New("no more")

// results gathers what became of several targets.
type results struct {
	ranking
	all     bool // every process was asked for, so that one that refuses or ends is not missing
	seen    map[int]bool
	refused []string // which may not be read, where all were asked for
	ended   int      // meanwhile, where all were asked for
	lack    error    // of the first that lacks what is to be looked at, likewise
}

// add takes the error of one target. It returns those that are not the target's own.
func (r *results) add(word string, err error) error {
	status, own := errors.AsType[statusError](err)
	_, refused := errors.AsType[*target.ProcessError](err)
	_, one := errors.AsType[targetError](err)
	_, lacks := errors.AsType[lackError](err)
	switch {
	case err == nil:
		r.seen[exitDone] = true
	case own:
		r.seen[int(status)] = true
	case lacks && r.all:
		r.lack = cmp.Or(r.lack, err)
	case lacks:
		complain(fmt.Errorf("%s: %w", word, err))
		r.seen[r.failed] = true
	case !refused && !one:
		return err
	case r.all && errors.Is(err, fs.ErrPermission):
		r.refused = append(r.refused, word)
	case r.all && (errors.Is(err, process.ErrNoProcess) || errors.Is(err, procmem.ErrGone)):
		r.ended++
	default:
		complain(err)
		if !r.all {
			r.seen[r.failed] = true
		}
	}
	return nil
}

// status returns the status of all, as an error.
func (r *results) status() error {
	if n := len(r.refused); n > 0 {
		notice("left out: %s that may not be read, the first is pid %s (procmem doctor %s tells why)", processes(n), r.refused[0], r.refused[0])
	}
	if r.ended > 0 {
		notice("left out: %s that ended meanwhile", processes(r.ended))
	}
	if len(r.seen) == 0 && r.lack != nil {
		return r.lack
	}
	for _, s := range r.order {
		switch {
		case !r.seen[s]:
		case s == exitDone:
			return nil
		default:
			return statusError(s)
		}
	}
	return statusError(r.failed)
}

func processes(n int) string {
	if n == 1 {
		return "1 process"
	}
	return strconv.Itoa(n) + " processes"
}

// identity tells one process from others.
type identity struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// whose is the target that something is printed of, among several.
type whose struct {
	identity
	Core string `json:"core,omitempty"` // the path of a core, as it was given
}

// whoseOf returns what a target is called. The name of a process is that of ps(1).
func whoseOf(t *target.Target) whose {
	if t.Core != nil {
		p := t.Core.Image().Process
		return whose{identity{p.PID, p.Name}, t.Word}
	}
	w := whose{identity: identity{PID: t.Process.PID()}}
	if st, err := t.Process.Stat(); err == nil { // it may have ended
		w.Name = st.Name
	}
	return w
}

// String returns one line of text that is fit for a terminal.
func (w whose) String() string {
	if w.Core != "" {
		return term.Printable(w.Core)
	}
	return strconv.Itoa(w.PID) + " " + term.Printable(w.Name)
}

// headings separates what is printed of several targets.
type headings struct {
	on    bool
	begun bool
}

// next begins with another target. text may be "".
func (h *headings) next(text fmt.Stringer) {
	if !h.on {
		return
	}
	if h.begun {
		term.Fprintf(os.Stdout, "\n")
	}
	h.begun = true
	if text != nil {
		term.Fprintf(os.Stdout, "%v:\n", text)
	}
}
