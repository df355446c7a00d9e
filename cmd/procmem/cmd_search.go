package main

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/candidates"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/search"
	"github.com/procmem/procmem/target"
)

// exitNothing is the status of a search that has found nothing.
const exitNothing = 1

func newSearch(g *globals) *cobra.Command {
	o := &searchFlags{}
	cmd := g.addJSON(&cobra.Command{
		Use:   "search TARGET PATTERN...",
		Short: "Find text, bytes and numbers, and narrow down where a value is",
		Long: `Find patterns in the memory of a process, which goes on running, or of a core.
A PATTERN is

  --string      text, the default; -i takes letters of either case, --utf16 is
                as Windows has it, and as Java and JavaScript have text that
                goes beyond Latin-1
  --regexp      a regular expression in the syntax of RE2, over bytes; -i
  --hex         bytes: 'de ad ?? ef', 0xdeadbeef, in the order in which they
                are written; a question mark is any half of a byte
  --type T      a number of type u8 to u64, i8 to i64, f32, f64 or ptr, or of
                int, double and others as in C: 42, 0x2a, 10..20, '>=5', 3.14.
                It is looked for at multiples of its size. Digits behind the
                point of a number tell how close it must be
  --pointer-to  a pointer to any address of a RANGE: '[heap]', 0x7ffd1000+64

and more of its kind may be in a file, one a line (-f; empty lines are passed
over). A negative number needs -- in front of it: --type i32 -- -3.

Each match is a line: its address, the process where there are several, the
mapping or the symbol that it is in, the pattern where there are several, and
the text around it, or the number. How many each process has comes at the end.
TARGET may be 123,456, the name of several processes, or all: those that may not
be read, or end meanwhile, are told and left out. With
--context a hexdump shows what is around it. All matches of text, bytes and
numbers are found, those of a regular expression do not overlap.

What was never touched is not looked at, and what is swapped out only with
--swapped: reading brings it back into memory.

To find where a value is that one sees change, --save keeps the matches as
candidates in a file, and prints the first ten. Without a PATTERN all positions
of the --type are candidates. --from looks at the candidates of a file again and
keeps those that meet a condition: their bytes are --changed or --unchanged,
their numbers --increased or --decreased, they now hold the --value. --watch
shows them as they change, the first 1000. --save may name the same file once
more: the one before is kept, and --undo brings it back. Where no candidate is
left, the file stays as it is. --save looks in writable memory, unless --perm
says otherwise. Candidates of a process go with that process alone, those of a
core with any.

Exit status: 0 something was found; 1 nothing was; 2 trouble, which is also that
a part of a core is missing or damaged, or that the process has ended.`,
		Example: "  procmem search 1234 password -i\n  procmem search all s3cret --count\n  procmem search core.1234 --regexp '[a-z]+@example\\.com' --count\n" +
			"  procmem search 1234 --hex '7f 45 4c 46 0?' --perm r-- --context 32\n  procmem search 1234 --pointer-to 0x55d0c0de1010+64 --in '[heap]'\n" +
			"  procmem search 1234 --type u32 100 --save hits\n  procmem search 1234 --from hits --value 99 --save hits\n  procmem search 1234 --from hits --decreased --watch",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && o.undo == "" {
				return exactly("TARGET")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.undo != "" {
				if len(args) > 0 || cmd.Flags().NFlag() > 1 {
					return usagef("--undo goes alone: procmem search --undo %s", o.undo)
				}
				return troubled(undoSave(o.undo))
			}
			o.set = func(name string) bool { return cmd.Flags().Changed(name) }
			if err := o.check(cmd, args); err != nil {
				return err
			}
			if o.save == "" {
				o.stdout = os.Stdout
				return troubled(targetFirst(cmd, args, o.run(context.Background(), g, args[0], args[1:])))
			}
			return troubled(undoing(func(ctx context.Context) error {
				out := newUntilDone(ctx, os.Stdout)
				defer out.Close()
				o.stdout = out
				return targetFirst(cmd, args, o.run(ctx, g, args[0], args[1:]))
			}))
		},
	})
	o.addTo(cmd)
	return cmd
}

// searchFlags are the flags of search.
type searchFlags struct {
	set    func(name string) bool // whether a flag was given
	stdout io.Writer

	str, regexp, hex, pointer bool
	typ                       string
	fold, utf16               bool
	file                      string
	also                      []string // patterns

	align     int
	bigEndian bool
	tolerance float64

	in      []string
	perm    string
	swapped bool

	most    int
	count   bool
	context int

	several severalSearch
	found   bool    // something, in some target
	cut     bool    // --max-results has left out matches, or may have
	told    bool    // a hint was printed
	left    leftOut // of cores in which nothing was found

	save, from, undo                         string
	watch                                    bool
	changed, unchanged, increased, decreased bool
	value                                    string
}

// shownWithSave is how many matches are printed where they are also saved.
const shownWithSave = 10

func (o *searchFlags) addTo(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.BoolVar(&o.str, "string", false, "PATTERN is text (the default)")
	fl.BoolVarP(&o.regexp, "regexp", "E", false, "PATTERN is a regular expression")
	fl.BoolVar(&o.hex, "hex", false, "PATTERN is bytes in hexadecimal")
	fl.StringVar(&o.typ, "type", "", "PATTERN is a number of this type; u8 u16 u32 u64 i8 i16 i32 i64 f32 f64 ptr")
	fl.BoolVar(&o.pointer, "pointer-to", false, "PATTERN is a RANGE that is pointed to")
	fl.StringArrayVarP(&o.also, "pattern", "e", nil, "take this PATTERN too, which may begin with -; may be repeated")
	fl.StringVarP(&o.file, "file", "f", "", "take patterns from this file too, one a line")
	fl.BoolVarP(&o.fold, "ignore-case", "i", false, "letters match in either case")
	fl.BoolVar(&o.utf16, "utf16", false, "text is in UTF-16, little endian")
	fl.IntVar(&o.align, "align", 0, "a number is at a multiple of this; 1 finds all (default: its size)")
	fl.BoolVar(&o.bigEndian, "big-endian", false, "numbers are big endian")
	fl.Float64Var(&o.tolerance, "tolerance", 0, "how far a floating-point number may be off")
	fl.StringArrayVar(&o.in, "in", nil, "look in this RANGE alone; may be repeated")
	fl.StringVar(&o.perm, "perm", "", "look in mappings with permissions such as rw-p; - is not, . is either")
	fl.BoolVar(&o.swapped, "swapped", false, "read what is swapped out too")
	fl.IntVar(&o.most, "max-results", 0, "stop after so many matches; with --save, print so many")
	fl.BoolVarP(&o.count, "count", "c", false, "print how many matches each pattern has")
	fl.IntVarP(&o.context, "context", "C", 16, "print so many bytes on either side; as a hexdump where this is given")
	fl.StringVar(&o.save, "save", "", "keep the matches in this file, as candidates")
	fl.StringVar(&o.undo, "undo", "", "bring back what this file held before the last --save")
	fl.StringVar(&o.from, "from", "", "look at the candidates of this file again")
	fl.BoolVar(&o.watch, "watch", false, "show the candidates as they change; until the process ends")
	fl.BoolVar(&o.changed, "changed", false, "keep candidates whose value has changed")
	fl.BoolVar(&o.unchanged, "unchanged", false, "keep those whose value has not")
	fl.BoolVar(&o.increased, "increased", false, "keep those whose value is greater now")
	fl.BoolVar(&o.decreased, "decreased", false, "keep those whose value is less now")
	fl.StringVar(&o.value, "value", "", "keep those that hold this value now")
	complete(cmd, "type", search.TypeNames()...)
	complete(cmd, "perm", "r--", "rw-", "r-x", "rwx", "rw-s", ".w.")
	cmd.SetFlagErrorFunc(o.flagError)
}

// searched is a target that is open for searching.
type searched struct {
	*opened
	whose  whose
	word   int // bytes of a pointer
	in     []procmem.Range
	places *places
}

// wrap has an error of reading the target explained.
func (s *searched) wrap(err error) error {
	if _, ok := errors.AsType[errInterrupted](err); ok {
		return err
	}
	return onTarget(s.Target, err)
}

func (o *searchFlags) run(ctx context.Context, g *globals, word string, words []string) error {
	perm, err := parsePermMask(o.perm)
	if err != nil {
		return err
	}
	unasked := o.save != "" && o.from == "" && o.perm == ""
	if unasked {
		perm = writable
	}
	specs, err := parseRanges(o.in)
	if err != nil {
		return err
	}
	if o.several.list, err = target.ParseList(word); err != nil {
		return err
	}
	o.tellBefore(words)
	typed := words
	words, err = o.patternWords(words)
	if err != nil {
		return err
	}
	if o.several.list.Several() && (o.save != "" || o.from != "") {
		return usagef("%s means several targets, and candidates are of one: name one for --save and --from", word)
	}
	err = eachTarget(o.several.list, asSearch, openMemory, func(t *opened) (err error) {
		s := &searched{opened: t, whose: whoseOf(t.Target), word: wordSize(t.Target), places: newPlaces(t.maps, t.symbols)}
		s.in, err = whereToLook(specs, perm, t.maps, t.symbols)
		if unasked && errors.Is(err, errNoPerm) {
			err = errors.New("nothing there can be written, and --save looks in writable memory: --perm ... looks in all")
		}
		if err != nil {
			return lacking(err)
		}
		return o.look(ctx, g, s, words)
	})
	if err == nil || errors.Is(err, statusError(exitNothing)) {
		o.tellNothing(typed, words)
		o.tellCut()
	}
	return o.several.end(err, !o.count)
}

// look looks at one target.
func (o *searchFlags) look(ctx context.Context, g *globals, s *searched, words []string) error {
	switch {
	case o.most > 0 && o.several.total >= uint64(o.most):
		return errNoMore
	case o.from != "":
		return o.narrow(ctx, g, s)
	case len(words) == 0:
		return o.everything(ctx, g, s)
	}
	patterns, err := o.patterns(words, s)
	if err != nil {
		return lacking(err)
	}
	return o.search(ctx, g, s, patterns)
}

// search looks for patterns.
func (o *searchFlags) search(ctx context.Context, g *globals, s *searched, patterns []search.Pattern) error {
	so := search.Options{In: s.in, Context: o.context, Swapped: o.swapped}
	if o.count || (o.typ != "" || o.pointer) && !g.json && !o.set("context") {
		so.Context = 0
	}
	searcher, err := search.New(patterns, so)
	if err != nil {
		return usageError{err}
	}
	var save *saver
	if o.save != "" {
		if save, err = newSaver(o.save, o.info(s)); err != nil {
			return err
		}
		defer save.abort()
	}
	found := o.countMatches(o.output(g, s, patterns), patterns)
	err = found.addAll(s, searcher.Matches(ctx, s.mem), save)
	o.several.add(s, found.total)
	o.found = o.found || found.total > 0
	o.cut = o.cut || found.total == found.most && save == nil
	if found.total == 0 {
		o.left.add(s.opened, s.in)
	}
	if err != nil {
		return err
	}
	trouble := tellSkipped(o.several.label(s), searcher.Stats(), o.swapped)
	if save != nil {
		if err := save.commit(); err != nil {
			return err
		}
		tellSaved(o.save, save.w.Count(), min(found.total, found.most), !o.count)
	}
	return searchStatus(found.total > 0, trouble)
}

// searchStatus returns the exit status, as that of grep(1).
func searchStatus(found bool, trouble error) error {
	switch {
	case trouble != nil:
		return trouble
	case !found:
		return statusError(exitNothing)
	}
	return nil
}

// tellSkipped prints what memory was not looked at; whose begins each line. It returns an error where that should not
// have happened.
func tellSkipped(whose string, st search.Stats, swapped bool) (trouble error) {
	if st.Swapped > 0 && !swapped {
		notice("%snot searched: %s swapped out (--swapped reads that too, which brings it back into memory)", whose, units.Size(st.Swapped))
	}
	type skip struct {
		ranges, bytes uint64
		first         procmem.Addr
	}
	skipped := map[string]skip{}
	var reasons []string // in order of appearance
	for _, f := range st.Faults {
		why := f.Err.Error()
		k := skipped[why]
		if k.ranges == 0 {
			reasons = append(reasons, why)
			k.first = f.Start
		}
		skipped[why] = skip{k.ranges + 1, k.bytes + f.Size(), k.first}
		if damaged(f.Err) {
			trouble = statusError(exitTrouble)
		}
	}
	for _, why := range reasons {
		k := skipped[why]
		notice("%snot searched: %s in %s, the first at %v: %s", whose, units.Size(k.bytes), count(int(k.ranges), "range"), k.first, why)
	}
	return trouble
}

// matchCounter counts matches, and prints them or their numbers.
type matchCounter struct {
	out      searchOutput
	patterns []search.Pattern
	most     uint64 // how many are printed
	numbers  bool
	nonzero  bool     // of these, only where there are some
	counts   []uint64 // of each pattern
	total    uint64
}

func (o *searchFlags) countMatches(out searchOutput, patterns []search.Pattern) *matchCounter {
	return &matchCounter{out: out, patterns: patterns, most: o.limit(), numbers: o.count, nonzero: o.several.list.All, counts: make([]uint64, len(patterns))}
}

// limit returns how many matches are printed.
func (o *searchFlags) limit() uint64 {
	switch {
	case o.most > 0:
		return uint64(o.most) - o.several.total
	case o.save != "" && !o.count:
		return shownWithSave
	}
	return math.MaxUint64
}

// addAll takes matches as long as they are wanted.
func (c *matchCounter) addAll(s *searched, matches iter.Seq2[search.Match, error], save *saver) error {
	var m search.Match // one for all, because it is handed on
	var err error
	for m, err = range matches {
		if err != nil {
			err = s.wrap(err)
			break
		}
		if save != nil {
			err = save.add(m.Start, m.Bytes)
		}
		if err == nil {
			err = stdoutError(c.add(&m))
		}
		if err != nil || c.total == c.most && save == nil {
			break
		}
	}
	if err != nil {
		_ = c.out.end() // prints what has been found
		return err
	}
	return stdoutError(c.end())
}

func (c *matchCounter) add(m *search.Match) error {
	c.total++
	c.counts[m.Pattern]++
	if c.numbers || c.total > c.most {
		return nil
	}
	return c.out.match(m)
}

// end prints what has to come last.
func (c *matchCounter) end() error {
	for i, n := range c.counts {
		if !c.numbers || c.nonzero && c.total == 0 {
			break
		}
		if err := c.out.count(c.patterns[i].String(), n, len(c.counts) > 1); err != nil {
			return err
		}
	}
	return c.out.end()
}

// searchOutput prints matches, or their number.
type searchOutput interface {
	match(m *search.Match) error
	candidate(c candidates.Candidate, info *candidates.Info) error
	count(pattern string, n uint64, several bool) error
	end() error
}

// checkCounts refuses numbers that make no sense.
func (o *searchFlags) checkCounts() error {
	switch {
	case o.most < 0 || o.most == 0 && o.set("max-results"):
		return usagef("--max-results %d: want 1 or more", o.most)
	case o.context < 0 || o.context > maxContext:
		return usagef("--context %d: want 0 to %d", o.context, maxContext)
	case o.set("align") && (o.align < 1 || o.align&(o.align-1) != 0):
		return usagef("--align %d: want a power of two", o.align)
	}
	return nil
}

// maxContext bounds --context, in bytes.
const maxContext = 1 << 20

// number returns a count as text, for people or programs.
func number(n uint64) string { return strconv.FormatUint(n, 10) }
