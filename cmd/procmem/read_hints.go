package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/target"
)

// checkApart refuses a length that stands apart from its address, as other programs want it.
func checkApart(of string, ranges []string) error {
	const lowest = 1 << 16 // where addresses begin that programs may map (mmap_min_addr)
	if len(ranges) != 2 || !looksLikeAddress(ranges[0]) {
		return nil
	}
	if n, err := target.ParseSize(ranges[1]); err == nil && (n < lowest || !looksLikeAddress(ranges[1])) {
		return usagef("a length is written behind a plus: procmem read %s %s+%s", shellWord(of), ranges[0], ranges[1])
	}
	return nil
}

// looksLikeAddress reports whether a word is an address, and nothing else.
func looksLikeAddress(word string) bool {
	const least = 8 // digits that need no 0x
	digits, prefixed := strings.CutPrefix(strings.ToLower(word), "0x")
	return digits != "" && strings.Trim(digits, "0123456789abcdef") == "" && (prefixed || len(digits) >= least)
}

// tellUnmapped says what to do about ranges of which a part is not mapped.
func tellUnmapped(t *opened, words []string, found []procmem.Range) {
	if !slices.ContainsFunc(found, func(r procmem.Range) bool { return !mapped(t.maps, r) }) {
		return
	}
	why := "the core has no mapping there"
	if t.Core == nil {
		why = "nothing is mapped there, for which the kernel has the error EIO"
	}
	notice("%s: procmem maps %s lists what is mapped", why, shellWord(t.Word))
	for _, word := range words {
		digits, _, _ := strings.Cut(word, "+")
		n, err := strconv.ParseUint(digits, 10, 64)
		if spec, perr := target.ParseRange(digits); err != nil || perr != nil || n == 0 || !isUnmapped(t.maps, spec) {
			continue
		}
		notice("addresses are hexadecimal, and %s was taken for 0x%[1]s: the decimal number is %#x", digits, n)
	}
}

func isUnmapped(ms []procmem.Mapping, s target.Spec) bool {
	rs, err := s.Resolve(ms)
	return err == nil && slices.ContainsFunc(rs, func(r procmem.Range) bool { return !mapped(ms, r) })
}

// mapped reports whether all of a range is.
func mapped(ms []procmem.Mapping, r procmem.Range) bool {
	for i := procmem.FindMapping(ms, r.Start); i < len(ms) && ms[i].Contains(r.Start); i++ {
		if r.Start = ms[i].End; r.Start >= r.End {
			return true
		}
	}
	return false
}
