package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/term"
)

// clock is how the time of a change is printed.
const clock = "15:04:05.000"

// watchPrinter is what all outputs of watched values share.
type watchPrinter struct {
	places *places
	text   func(b []byte) string
}

// value returns a value as text, or why there is none.
func (p *watchPrinter) value(s *spot) string {
	if s.err != nil {
		return "(" + procmem.Cause(s.err).Error() + ")"
	}
	return p.text(s.now)
}

// watchLines prints a line for each change.
type watchLines struct{ watchPrinter }

func (l watchLines) change(_ int, s *spot, was []byte, at time.Time) error {
	text := l.value(s)
	if was != nil {
		text = l.text(was) + " -> " + text
	}
	_, err := term.Fprintf(os.Stdout, "%s  %v  %s  %s\n", at.Format(clock), s.addr, l.places.name(s.addr), text)
	return err
}

func (watchLines) flush() error { return nil }

// watchScreen shows all values in place, on a terminal.
type watchScreen struct {
	watchPrinter
	screen *term.Screen
	rows   []term.Watched
	fresh  []int // of the rows, those that the last look has changed
	before []int // of the rows, those that are drawn as changed
}

func (v *watchScreen) change(i int, s *spot, was []byte, at time.Time) error {
	r := &v.rows[i]
	*r = term.Watched{Addr: s.addr, Place: v.places.name(s.addr), Value: v.value(s), Note: r.Note}
	if was != nil {
		r.Fresh = true
		r.Note = fmt.Sprintf("was %s until %s", v.text(was), at.Format(clock))
		v.fresh = append(v.fresh, i)
	}
	return nil
}

func (v *watchScreen) flush() error {
	for _, i := range v.before {
		v.rows[i].Fresh = false
	}
	for _, i := range v.fresh {
		v.rows[i].Fresh = true
	}
	v.before, v.fresh = append(v.before[:0], v.fresh...), v.fresh[:0]
	return v.screen.Draw(v.rows)
}

// watchJSON prints an object for each change.
type watchJSON struct{ watchPrinter }

// watchedJSON is a value that is new.
type watchedJSON struct {
	Time    time.Time    `json:"time"`
	Start   procmem.Addr `json:"start"`
	Bytes   int          `json:"bytes"`
	Mapping string       `json:"mapping"`
	Symbol  string       `json:"symbol"`
	Value   string       `json:"value,omitempty"`
	Was     string       `json:"was,omitempty"`
	Hex     string       `json:"hex,omitempty"`
	Error   string       `json:"error,omitempty"`
}

func (j watchJSON) change(_ int, s *spot, was []byte, at time.Time) error {
	w := watchedJSON{Time: at, Start: s.addr, Bytes: len(s.now), Mapping: j.places.locate(s.addr), Symbol: j.places.symbols.Name(s.addr)}
	if was != nil {
		w.Was = j.text(was)
	}
	if s.err != nil {
		w.Error = procmem.Cause(s.err).Error()
	} else {
		w.Value, w.Hex = j.text(s.now), hex.EncodeToString(s.now)
	}
	return printJSON(&w)
}

func (watchJSON) flush() error { return nil }
