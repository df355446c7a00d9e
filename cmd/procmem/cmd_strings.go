package main

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/search"
	"github.com/procmem/procmem/target"
)

func newStrings(g *globals) *cobra.Command {
	var o stringsFlags
	cmd := g.addJSON(&cobra.Command{
		Use:   "strings TARGET",
		Short: "Print the strings in memory, with their addresses",
		Long: `Print the runs of printable characters in the memory of a process or a core, as
strings(1) does of a file: of 4 characters or more, ASCII and the tab. Each line
is an address, which unlike in strings(1) needs no -t, and the text.

A run goes on from one mapping into the next where these touch. What was never
touched is not looked at, and what is swapped out only with --swapped: reading
brings it back into memory.

Exit status: 0 done, whether there are strings or not; 1 failed; 2 bad usage;
3 done, but memory that should have been readable was not.`,
		Example: "  procmem strings 1234 -n 8 | grep -i password\n  procmem strings 1234 -e l --in '[heap]'\n" +
			"  procmem strings core.1234 -t none | sort | uniq -c",
		Args: noPattern,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(g, args[0]) },
	})
	fl := cmd.Flags()
	fl.IntVarP(&o.min, "bytes", "n", 4, "the least number of characters")
	fl.StringVarP(&o.radix, "radix", "t", "x", "addresses in hexadecimal (x), decimal (d), octal (o), or none")
	fl.StringVarP(&o.encoding, "encoding", "e", "s", "characters: s 7 bits, S 8 bits, l b 16 bits, L B 32 bits (little, big endian)")
	fl.StringArrayVar(&o.in, "in", nil, "look in this RANGE alone; may be repeated")
	fl.BoolVar(&o.swapped, "swapped", false, "read what is swapped out too")
	complete(cmd, "radix", "x", "d", "o", "none")
	complete(cmd, "encoding", "s", "S", "l", "b", "L", "B")
	return cmd
}

type stringsFlags struct {
	min             int
	radix, encoding string
	in              []string
	swapped         bool
}

// radixes are the values of -t.
var radixes = map[string]int{"x": 16, "d": 10, "o": 8, "none": 0}

func (o *stringsFlags) run(g *globals, word string) error {
	radix, ok := radixes[o.radix]
	if !ok {
		return usagef("--radix %q: want x, d, o or none", o.radix)
	}
	encoding, err := search.ParseEncoding(o.encoding)
	if err != nil {
		return usagef("--encoding: %v", err)
	}
	if o.min < 1 {
		return usagef("--bytes %d: want 1 or more", o.min)
	}
	specs, err := parseRanges(o.in)
	if err != nil {
		return err
	}
	list, err := target.ParseList(word)
	if err != nil {
		return err
	}
	printer := stringLines{encoding: encoding, radix: radix, terminal: term.IsTerminal(os.Stdout)}
	var left leftOut
	err = eachTarget(list, usual, openMemory, func(t *opened) error {
		s, in, err := o.strings(t, specs, encoding)
		if err != nil {
			return lacking(err)
		}
		left.add(t, in)
		whose, label := whoseOf(t.Target), ""
		if list.Several() {
			printer.whose = whose.String() + " "
			label = whose.String() + ": "
		}
		add := printer.add
		if g.json {
			add = stringsJSON{whose, encoding}.add
		}
		return o.print(t, s, add, label)
	})
	left.tell(err)
	return err
}

// strings returns what looks for the strings of one target, and where it looks.
func (o *stringsFlags) strings(t *opened, specs []target.Spec, encoding search.Encoding) (*search.Searcher, []procmem.Range, error) {
	in, err := resolveRanges(specs, t.maps, t.symbols)
	if err != nil {
		return nil, nil, err
	}
	if len(specs) == 0 {
		in = ordinary(t.maps)
	}
	s, err := search.NewStrings(search.StringsOptions{Min: o.min, Encoding: encoding}, search.Options{In: in, Swapped: o.swapped})
	if err != nil {
		return nil, nil, usageError{err}
	}
	return s, in, nil
}

// print prints the strings of one target.
func (o *stringsFlags) print(t *opened, s *search.Searcher, add func(b []byte, m *search.Match, goesOn bool) []byte, label string) error {
	out := breakLines{w: os.Stdout}
	for text, err := range s.Text(context.Background(), t.mem, add) {
		if err != nil {
			return cmp.Or(onTarget(t.Target, err), out.end())
		}
		if err := out.write(text); err != nil {
			return stdoutError(err)
		}
	}
	if err := out.end(); err != nil {
		return stdoutError(err)
	}
	_ = tellSkipped(label, s.Stats(), o.swapped) // the status is that of the next lines
	if len(s.Stats().Faults) > 0 {
		return statusError(exitMissing)
	}
	return nil
}

// ordinary returns the mappings that are the target's own. Those of the kernel cannot be read,
// or hold the kernel's code.
func ordinary(ms []procmem.Mapping) []procmem.Range {
	rs := make([]procmem.Range, 0, len(ms))
	for i := range ms {
		if !ms[i].Special() || ms[i].Path == "[vdso]" {
			rs = append(rs, ms[i].Range)
		}
	}
	return rs
}

// breakLines writes each line break before the next line, because whether a string goes on
// shows late.
type breakLines struct {
	w     io.Writer
	begun bool
}

func (l *breakLines) write(b []byte) error {
	if !l.begun {
		b = b[1:]
	}
	l.begun = true
	_, err := l.w.Write(b)
	return err
}

func (l *breakLines) end() error {
	if !l.begun {
		return nil
	}
	_, err := l.w.Write([]byte{'\n'})
	return err
}

// stringLines makes a line of each string. A long string comes in pieces.
type stringLines struct {
	encoding search.Encoding
	radix    int
	terminal bool
	whose    string // among several targets
}

func (l stringLines) add(b []byte, m *search.Match, goesOn bool) []byte {
	if !goesOn {
		b = append(appendAddress(append(b, '\n'), m.Start, l.radix), l.whose...)
	}
	from := len(b)
	b = appendCharacters(b, m.Bytes, l.encoding)
	if l.terminal && l.encoding == search.Latin {
		b = append(b[:from], term.Printable(string(b[from:]))...)
	}
	return b
}

// appendAddress appends an address as strings(1) would append an offset.
func appendAddress(b []byte, a procmem.Addr, radix int) []byte {
	const width = 7
	if radix == 0 {
		return b
	}
	from := len(b)
	b = strconv.AppendUint(b, uint64(a), radix)
	for len(b) < from+width {
		b = slices.Insert(b, from, ' ')
	}
	return append(b, ' ')
}

// appendCharacters appends the text of a string, one byte for each character.
func appendCharacters(b, p []byte, e search.Encoding) []byte {
	step := e.Width()
	if step == 1 {
		return append(b, p...)
	}
	low := 0
	if e == search.UTF16BE || e == search.UTF32BE {
		low = step - 1
	}
	for ; low < len(p); low += step {
		b = append(b, p[low])
	}
	return b
}

// stringsJSON makes an object of each piece of a string.
type stringsJSON struct {
	whose    whose
	encoding search.Encoding
}

func (j stringsJSON) add(b []byte, m *search.Match, _ bool) []byte {
	out := bytes.NewBuffer(append(b, '\n'))
	enc := newJSONEncoder(out)
	_ = enc.Encode(struct { // a string and two numbers always encode
		whose
		Start procmem.Addr `json:"start"`
		Bytes int          `json:"bytes"`
		Text  string       `json:"text"`
	}{j.whose, m.Start, len(m.Bytes), string(appendCharacters(nil, m.Bytes, j.encoding))})
	return bytes.TrimSuffix(out.Bytes(), []byte{'\n'})
}
