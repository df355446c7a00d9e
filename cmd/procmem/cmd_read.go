package main

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/target"
)

// readBlock is how many bytes are read at once.
const readBlock = 1 << 20

func newRead(g *globals) *cobra.Command {
	var r reader
	cmd := g.addJSON(&cobra.Command{
		Use:   "read TARGET RANGE...",
		Short: "Print memory: a hexdump on a terminal, raw bytes in a pipe",
		Long: `Print the memory of a process or a core: a hexdump on a terminal, and the raw
bytes in a pipe or file.

A process goes on running while it is read. What can be read is printed; what
cannot is told on stderr with its reason, and the exit status is 1.

A RANGE may also be sym:NAME, the memory of a symbol, with +OFFSET+LENGTH. The
symbols are those of the mapped files as far as they have any; for a core, of
the files of this machine that have the same build ids. Code and constants that
a core leaves out are read from these files, which stderr tells.

--follow prints words and where they lead to: what each points at, what that
points at, and so on for 5 steps, until there is a string, a number or code.
Colours tell pointers to code (red), the stack (magenta), the heap (cyan), other
memory that can be written (yellow), and what can only be read (bold). A RANGE
that has only a beginning is 16 words.

--watch shows the values of a --format, or 16 bytes at a time, as they change: in
place on a terminal, in a pipe a line for each change. It ends with the process.`,
		Example: "  procmem read 1234 0x7ffd1000-0x7ffd2000\n  procmem read 1234 '[heap]+0x10+64'\n" +
			"  procmem read core.1234 '[stack]' --format ptr\n  procmem read 1234 libc.so.6+0+4K > head.bin\n" +
			"  procmem read 1234 sym:main_arena --follow",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return exactly("TARGET", "RANGE")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return targetFirst(cmd, args, r.run(g, args[0], args[1:]))
		},
	})
	cmd.Flags().StringVarP(&r.format, "format", "f", "", "how to print: hex, raw, "+strings.Join(term.Formats(), ", ")+
		" (default: hex on a terminal, else raw)")
	cmd.Flags().BoolVar(&r.watching, "watch", false, "show values of the --format as they change, until the process ends")
	cmd.Flags().BoolVar(&r.follow, "follow", false, "print words, and follow those that are pointers")
	complete(cmd, "format", append([]string{"hex", "raw"}, term.Formats()...)...)
	return cmd
}

// reader is one call of read.
type reader struct {
	format string
	values term.Format // if format is one of values
	follow bool

	watching bool
	unasked  bool // the format is the default
}

func (r *reader) run(g *globals, word string, ranges []string) error {
	if err := r.checkFormat(g); err != nil {
		return err
	}
	if err := checkApart(word, ranges); err != nil {
		return err
	}
	specs, err := parseRanges(ranges)
	if err != nil {
		return err
	}
	t, err := openMemory(word)
	if err != nil {
		return err
	}
	defer t.Close()
	mem, done := filled(t)
	defer done()
	f := &follower{mem: mem, maps: t.maps, word: wordSize(t.Target), locate: target.Locator(t.maps), tab: t.symbols}
	if r.follow {
		for i := range specs {
			specs[i] = specs[i].DefaultTo(uint64(followWords * f.word))
		}
	}
	found, err := resolveRanges(specs, t.maps, t.symbols)
	if err != nil {
		return err
	}
	if r.watching {
		return r.watch(g, t, found)
	}
	out := r.output(g, f)
	if raw, ok := out.(rawBytes); ok && r.unasked && len(found) > 1 {
		out = &toldBytes{rawBytes: raw}
	}
	if err = readRanges(mem, found, out); errors.Is(err, statusError(exitFailed)) {
		tellUnmapped(t, ranges, found)
	}
	return err
}

// wordSize returns the size of a pointer in bytes.
func wordSize(t *target.Target) int {
	if t.Core != nil {
		return t.Core.Image().Arch.WordSize()
	}
	if arch, err := t.Process.Arch(); err == nil {
		return arch.WordSize()
	}
	return 8
}

// readOutput prints pieces of memory.
type readOutput interface {
	Write(addr procmem.Addr, p []byte) error
	Close() error
}

// faultOutput is a readOutput that also prints what could not be read.
type faultOutput interface {
	fault(f procmem.Fault) error
}

// checkFormat fills in the default format, and parses a format of values.
func (r *reader) checkFormat(g *globals) (err error) {
	if r.follow && r.format != "" {
		return usagef("--follow prints pointers: it does not go with --format %s", r.format)
	}
	if r.watching {
		return r.checkWatch()
	}
	if g.json {
		if r.format != "" && r.format != "hex" {
			return usagef("--json prints hexadecimal bytes: it does not go with --format %s", r.format)
		}
		r.format = "json"
		return nil
	}
	switch r.format {
	case "":
		r.format, r.unasked = "raw", true
		if term.IsTerminal(os.Stdout) {
			r.format = "hex"
		}
	case "raw", "hex":
	default:
		if r.values, err = term.ParseFormat(r.format); err != nil {
			return usagef("--format %q: want hex, raw, %s", r.format, strings.Join(term.Formats(), ", "))
		}
	}
	return nil
}

func (r *reader) output(g *globals, f *follower) readOutput {
	color := g.color.Enabled(os.Stdout)
	switch {
	case r.follow:
		return f.output(g)
	case r.format == "json":
		return jsonBytes{}
	case r.format == "raw":
		return rawBytes{os.Stdout}
	case r.format == "hex":
		return term.NewHexdump(os.Stdout, color)
	}
	return term.NewValues(os.Stdout, r.values, f.word, color, f.name)
}

// jsonBytes prints an object for each piece.
type jsonBytes struct{}

func (jsonBytes) Write(addr procmem.Addr, p []byte) error { return printJSON(pieceOf(addr, p)) }
func (jsonBytes) Close() error                            { return nil }
func (jsonBytes) fault(f procmem.Fault) error {
	return printJSON(missing{f.Range, f.Size(), f.Err.Error()})
}

// pieceJSON is a piece of memory.
type pieceJSON struct {
	Start procmem.Addr `json:"start"`
	Bytes int          `json:"bytes"`
	Hex   string       `json:"hex"`
}

func pieceOf(addr procmem.Addr, p []byte) pieceJSON {
	return pieceJSON{addr, len(p), hex.EncodeToString(p)}
}

func readRanges(mem procmem.Memory, ranges []procmem.Range, out readOutput) error {
	buf := make([]byte, readBlock)
	status := error(nil)
	for _, r := range ranges {
		if o, ok := out.(rangeOutput); ok {
			o.begin(r)
		}
		faults, err := procmem.ReadFull(mem, r, buf, out.Write)
		if err != nil {
			return stdoutError(err)
		}
		for _, f := range faults {
			if o, ok := out.(faultOutput); ok {
				if err := o.fault(f); err != nil {
					return err
				}
			}
			tellFault(f)
			status = statusError(exitFailed)
		}
	}
	if err := out.Close(); err != nil {
		return stdoutError(err)
	}
	return status
}
