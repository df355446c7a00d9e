package main

import (
	"errors"

	"github.com/procmem/procmem/target"
)

// asSearch is the ranking of a search: found somewhere is found.
var asSearch = ranking{exitTrouble, []int{exitTrouble, exitDone, exitNothing}}

// severalSearch is what a search of several targets keeps of each. Of one target it is empty.
type severalSearch struct {
	list  target.List
	total uint64 // matches so far
	found []targetMatches
}

// targetMatches is how many matches one target has.
type targetMatches struct {
	whose whose
	n     uint64
}

// add notes how many matches a target has.
func (v *severalSearch) add(s *searched, n uint64) {
	if v.list.Several() {
		v.total += n
		v.found = append(v.found, targetMatches{s.whose, n})
	}
}

// label begins what is told of one target among several.
func (v *severalSearch) label(s *searched) string {
	if !v.list.Several() {
		return ""
	}
	return s.whose.String() + ": "
}

// end prints how many matches each target has, unless that has been printed. It returns the error
// of the whole search.
func (v *severalSearch) end(err error, summary bool) error {
	if !v.list.Several() {
		return err
	}
	none := 0
	for _, f := range v.found {
		switch {
		case !summary:
		case f.n > 0 || !v.list.All:
			notice("%v: %s", f.whose, matches(f.n))
		default:
			none++
		}
	}
	if none > 0 {
		notice("%s: no match", processes(none))
	}
	if status, ok := errors.AsType[statusError](err); ok && status == exitNothing && v.total > 0 {
		return nil // of a process that has ended after that
	}
	return err
}

func matches(n uint64) string {
	switch n {
	case 0:
		return "no match"
	case 1:
		return "1 match"
	}
	return number(n) + " matches"
}
