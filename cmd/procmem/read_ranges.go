package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/symbols"
	"github.com/procmem/procmem/target"
)

// parseRanges parses words that are each a RANGE.
func parseRanges(words []string) ([]target.Spec, error) {
	specs := make([]target.Spec, 0, len(words))
	for _, w := range words {
		s, err := target.ParseRange(w)
		if err != nil {
			return nil, err
		}
		specs = append(specs, s)
	}
	return specs, nil
}

// resolveRanges returns the ranges among the mappings and the symbols of a target, in the order
// in which they are given.
func resolveRanges(specs []target.Spec, ms []procmem.Mapping, tab *symbols.Table) ([]procmem.Range, error) {
	var ranges []procmem.Range
	for _, s := range specs {
		rs, err := s.ResolveWith(ms, func(name string) (procmem.Range, error) { return findSymbol(tab, name) })
		if err != nil {
			return nil, orSymbol(err, s, tab)
		}
		ranges = append(ranges, rs...)
	}
	return ranges, nil
}

// findSymbol returns the memory of the one symbol of that name.
func findSymbol(tab *symbols.Table, name string) (procmem.Range, error) {
	const most = 8 // names that a message lists
	found := tab.Find(name)
	if len(found) > 1 {
		// The vDSO has functions with the same names as in libc.
		found = slices.DeleteFunc(found, func(s symbols.Symbol) bool { return s.File == "[vdso]" })
	}
	switch len(found) {
	case 0:
		return procmem.Range{}, fmt.Errorf("%w: no file that is mapped and can be read has one called %s", target.ErrNoSymbol, name)
	case 1:
		return found[0].Range, nil
	}
	var places []string
	for _, s := range found[:min(len(found), most)] {
		places = append(places, s.String())
	}
	if more := len(found) - most; more > 0 {
		places = append(places, fmt.Sprintf("%d more", more))
	}
	return procmem.Range{}, fmt.Errorf("%w: %s is %s; give one of these addresses", target.ErrAmbiguousName, name, strings.Join(places, ", "))
}

// orSymbol adds to the error of a RANGE that it is a symbol.
func orSymbol(err error, s target.Spec, tab *symbols.Table) error {
	name, _, _ := strings.Cut(s.String(), "+")
	if !errors.Is(err, target.ErrNoMapping) || len(tab.Find(name)) == 0 {
		return err
	}
	return fmt.Errorf("%w; did you mean %s?", err, shellWord("sym:"+s.String()))
}
