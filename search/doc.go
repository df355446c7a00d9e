// Package search finds patterns in the memory of a process or a core. Start with New, which
// compiles them. Searcher.Matches yields what is found, in ascending order of address, while
// the scan goes on.
//
// # What is searched
//
// Memory that is there. Pages that a process has never touched, and holes of a core, are known
// to be zeros without being read (procmem.Sparse). They are passed over: no pattern is found
// there, not even one of zeros. What is swapped out is left alone and counted, unless
// Options.Swapped is set. Searcher.Stats lists what cannot be read.
//
// Memory of a running process changes while it is searched. A match was there when its block
// was read.
//
// # What is a match
//
// A match may span pages and neighbouring mappings, and is found once. It never spans memory
// that is absent, cannot be read, or is not asked for.
//
// Literals, hexadecimal patterns and values match wherever they are, also where matches
// overlap. Values match at multiples of their alignment alone. A regular expression matches as
// if each run of memory without a gap was read from its start. Matches are leftmost first, do
// not overlap, are never empty, and are at most MaxRegexpLength bytes long. Matches of several
// patterns are merged by address, then by the index of the pattern.
package search
