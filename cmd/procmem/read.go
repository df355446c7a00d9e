package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/target"
)

// readBlock is how much is read at once.
const readBlock = 1 << 20

func newRead(g *globals) *cobra.Command {
	var format string
	cmd := g.addJSON(&cobra.Command{
		Use:   "read TARGET RANGE...",
		Short: "Print memory: a hexdump on a terminal, raw bytes in a pipe",
		Long: `Print the memory of a process or a core: a hexdump on a terminal, and the raw
bytes in a pipe or file.

A process goes on running while it is read. What can be read is printed; what
cannot is told on stderr with its reason, and the exit status is 1.`,
		Example: "  procmem read 1234 0x7ffd1000-0x7ffd2000\n  procmem read 1234 '[heap]+0x10+64'\n" +
			"  procmem read core.1234 '[stack]' --format ptr\n  procmem read 1234 libc.so.6+0+4K > head.bin",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return exactly("TARGET", "RANGE")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			values, err := checkFormat(g, &format)
			if err != nil {
				return err
			}
			specs := make([]target.Spec, 0, len(args)-1)
			for _, a := range args[1:] {
				s, err := target.ParseRange(a)
				if err != nil {
					return err
				}
				specs = append(specs, s)
			}
			t, err := openTarget(args[0])
			if err != nil {
				return err
			}
			defer t.Close()
			mem, done, err := t.Memory()
			if err != nil {
				return err
			}
			defer done()
			ms, err := mem.Mappings()
			if err != nil {
				return onTarget(t, err)
			}
			return readRanges(mem, ms, specs, newReadOutput(g, t, ms, format, values))
		},
	})
	cmd.Flags().StringVarP(&format, "format", "f", "", "how to print: hex, raw, "+strings.Join(term.Formats(), ", ")+
		" (default: hex on a terminal, else raw)")
	complete(cmd, "format", append([]string{"hex", "raw"}, term.Formats()...)...)
	return cmd
}

// readOutput prints pieces of memory.
type readOutput interface {
	Write(addr procmem.Addr, p []byte) error
	Close() error
}

// checkFormat fills in the default format, and parses one of values.
func checkFormat(g *globals, format *string) (values term.Format, err error) {
	if g.json {
		if *format != "" && *format != "hex" {
			return 0, usagef("--json prints hexadecimal bytes: it does not go with --format %s", *format)
		}
		*format = "json"
		return 0, nil
	}
	switch *format {
	case "":
		*format = "raw"
		if term.IsTerminal(os.Stdout) {
			*format = "hex"
		}
	case "raw", "hex":
	default:
		if values, err = term.ParseFormat(*format); err != nil {
			return 0, usagef("--format %q: want hex, raw, %s", *format, strings.Join(term.Formats(), ", "))
		}
	}
	return values, nil
}

func newReadOutput(g *globals, t *target.Target, ms []procmem.Mapping, format string, values term.Format) readOutput {
	color := g.color.Enabled(os.Stdout)
	switch format {
	case "json":
		return jsonBytes{}
	case "raw":
		return rawBytes{os.Stdout}
	case "hex":
		return term.NewHexdump(os.Stdout, color)
	}
	word := 8
	if t.Core != nil {
		word = t.Core.Image().Arch.WordSize()
	} else if arch, err := t.Process.Arch(); err == nil {
		word = arch.WordSize()
	}
	return term.NewValues(os.Stdout, values, word, color, locator(ms))
}

// locator returns what names an address as a RANGE would: by the mapped file,
// or the name in brackets, and the offset from the lowest mapping of it. A
// file goes by its basename unless another one has the same.
func locator(ms []procmem.Mapping) func(procmem.Addr) string {
	type origin struct {
		start procmem.Addr
		name  string
	}
	origins := make(map[string]*origin)
	owner := make(map[string]string) // of a basename: the path, "" where there are several
	for i := range ms {
		p := ms[i].Path
		if p == "" || origins[p] != nil {
			continue
		}
		origins[p] = &origin{ms[i].Start, p}
		if strings.HasPrefix(p, "/") {
			base := path.Base(p)
			if _, taken := owner[base]; taken {
				owner[base] = ""
			} else {
				owner[base] = p
			}
		}
	}
	for base, p := range owner {
		if p != "" {
			origins[p].name = base
		}
	}
	return func(a procmem.Addr) string {
		i := procmem.FindMapping(ms, a)
		if i == len(ms) || !ms[i].Contains(a) {
			return ""
		}
		if o := origins[ms[i].Path]; o != nil {
			return fmt.Sprintf("%s+%#x", o.name, uint64(a-o.start))
		}
		return fmt.Sprintf("%s+%#x", nameOf(&ms[i]), uint64(a-ms[i].Start))
	}
}

type rawBytes struct{ w io.Writer }

func (r rawBytes) Write(_ procmem.Addr, p []byte) error {
	_, err := r.w.Write(p)
	return err
}
func (rawBytes) Close() error { return nil }

// jsonBytes prints an object for each piece.
type jsonBytes struct{}

func (jsonBytes) Write(addr procmem.Addr, p []byte) error {
	return printJSON(struct {
		Start procmem.Addr `json:"start"`
		Bytes int          `json:"bytes"`
		Hex   string       `json:"hex"`
	}{addr, len(p), hex.EncodeToString(p)})
}
func (jsonBytes) Close() error { return nil }

func readRanges(mem procmem.Memory, ms []procmem.Mapping, specs []target.Spec, out readOutput) error {
	var ranges []procmem.Range
	for _, s := range specs {
		rs, err := s.Resolve(ms)
		if err != nil {
			return err
		}
		ranges = append(ranges, rs...)
	}
	buf := make([]byte, readBlock)
	status := error(nil)
	for _, r := range ranges {
		faults, err := procmem.ReadFull(mem, r, buf, out.Write)
		if err != nil {
			return stdoutError(err)
		}
		for _, f := range faults {
			if _, ok := out.(jsonBytes); ok {
				if err := printJSON(missing{f.Range, f.Size(), f.Err.Error()}); err != nil {
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
