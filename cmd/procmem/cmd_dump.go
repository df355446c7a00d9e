package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/snapshot"
	"github.com/procmem/procmem/target"
)

func newDump(g *globals) *cobra.Command {
	method := methodFlag(snapshot.MethodAuto)
	var out string
	cmd := g.addJSON(&cobra.Command{
		Use:   "dump TARGET -o DIR|-",
		Short: "Write the raw bytes of every readable mapping, with an index",
		Long: `Write the raw bytes of every readable mapping into the new folder DIR: a file
0xSTART-0xEND.bin for each mapping, with holes where memory was never touched,
and index.json, which lists them all with what could not be read.

With -o - the same goes to stdout as a tar archive, which has no holes: there
is a file 0xSTART-0xEND.bin for each stretch of data, and index.json comes
last.

The methods by which the moment is taken are those of procmem core.`,
		Example: "  procmem dump 1234 -o dump.1234\n  procmem dump core.1234 -o - | tar tv\n  procmem dump nginx --method fork -o dump",
		Args:    exactly("TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case out == "":
				return usagef("-o is missing: want a new folder, or - for a tar archive on stdout")
			case out == "-" && term.IsTerminal(os.Stdout):
				return usagef("a dump is not written to a terminal: use -o DIR, or a pipe")
			case strings.Contains(out, "://"):
				return usagef("%s: a dump is a folder or a stream: procmem core can write to s3://", out)
			}
			t, err := openTarget(args[0])
			if err != nil {
				return err
			}
			defer t.Close()
			tellArchiveName(args[0], out)
			d := &dumper{target: t, method: snapshot.Method(method), stream: out == "-", pipe: pipe.New(), progress: startProgress(args[0])}
			defer d.progress.end()
			err = undoing(func(ctx context.Context) error {
				if out != "-" {
					return d.toDir(ctx, out)
				}
				if err := checkStdout(); err != nil {
					return err
				}
				stdout := newUntilDone(ctx, os.Stdout)
				defer stdout.Close()
				return d.toTar(ctx, stdout)
			})
			d.progress.end()
			if err != nil {
				return onOutput(out, err)
			}
			return d.tell(g, out)
		},
	})
	cmd.Flags().StringVarP(&out, "output", "o", "", "the new folder `DIR`, or - for a tar archive on stdout")
	addMethod(cmd, &method)
	return cmd
}

// dumper copies mappings, one after the other.
type dumper struct {
	target *target.Target
	method snapshot.Method
	stream bool   // it goes to a reader that may be slow
	size   uint64 // about how many bytes of data there are
	index  dumpIndex

	mem      procmem.Memory
	write    func(func() error) error // runs a function that writes, and does not let it keep the process held for ever
	pipe     *pipe.Pipe
	written  atomic.Int64 // bytes of memory
	progress *progress
}

// dumpIndex is index.json.
type dumpIndex struct {
	Target      string        `json:"target"`
	Method      string        `json:"method"` // as in the report of a core, or "core" for a core file
	PauseMS     float64       `json:"pause_ms"`
	MemoryBytes uint64        `json:"memory_bytes"` // data that was written, without holes
	Mappings    []dumpMapping `json:"mappings"`
	Missing     []missing     `json:"missing"`
}

// dumpMapping is one mapping and the files with its data.
type dumpMapping struct {
	procmem.Range
	Perm   procmem.Perm `json:"perm"`
	Offset uint64       `json:"offset"`
	Path   string       `json:"path"`
	Files  []string     `json:"files"` // empty where the mapping holds only zeros
}

func rangesOf(ms []procmem.Mapping) (ranges []procmem.Range) {
	for i := range ms {
		ranges = append(ranges, ms[i].Range)
	}
	return ranges
}

// look opens the memory as it is before anything is stopped.
func (d *dumper) look() (procmem.Sparse, []procmem.Mapping, func(), error) {
	mem, done, err := d.target.Memory()
	if err != nil {
		return nil, nil, nil, err
	}
	ms, err := mem.Mappings()
	if err != nil {
		done()
		return nil, nil, nil, onTarget(d.target, err)
	}
	return mem, ms, done, nil
}

// measure finds out how much there is to copy, and how long the longest file would be. It stops
// nothing.
func (d *dumper) measure() (longest uint64, err error) {
	mem, ms, done, err := d.look()
	if err != nil {
		return 0, err
	}
	defer done()
	for i := range ms {
		data, _, err := d.dataOf(mem, ms[i].Range)
		if err != nil {
			return 0, onTarget(d.target, err)
		}
		for _, r := range data {
			d.size += r.Size()
		}
		if len(data) > 0 {
			longest = max(longest, ms[i].Size())
		}
	}
	return longest, nil
}

// zeros returns how many bytes of what there is to copy are in pages of zeros now.
func (d *dumper) zeros(ctx context.Context) (uint64, error) {
	d.progress.enter("looking for empty pages")
	mem, ms, done, err := d.look()
	if err != nil {
		return 0, err
	}
	defer done()
	return pipe.CountZeros(ctx, mem, rangesOf(ms))
}

func (d *dumper) toDir(ctx context.Context, path string) error {
	path = filepath.Clean(path)
	longest, err := d.measure()
	if err != nil {
		return err
	}
	d.size, err = sink.Fit(path, d.size, longest, func() (uint64, error) { return d.zeros(ctx) })
	if e, ok := errors.AsType[*sink.NoRoomError](err); ok {
		return noRoomFor((*capture.NoRoomError)(e), notThisDump)
	}
	if err != nil {
		return err
	}
	dir, err := sink.CreateDir(path, ourName)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			dir.Abort()
		}
	}()
	if err := dir.Reserve(int64(d.size)); err != nil {
		return fmt.Errorf("write %s: no room: %v; choose %s (nothing was stopped)", path, err, notThisDump)
	}
	if err := dir.Fits(int64(longest)); errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("write %s: no file of this file system can be as long as the largest mapping, %s: choose %s (nothing was stopped)",
			path, units.Size(longest), notThisDump)
	}
	err = d.each(ctx, filepath.Dir(path), func(ctx context.Context, m *procmem.Mapping, data []procmem.Range) error {
		name := fileName(m.Range)
		var f *sink.DirFile
		err := d.write(func() (err error) {
			f, err = dir.File(name, int64(m.Size()))
			return err
		})
		if err != nil {
			return err
		}
		defer f.Close()
		err = d.copy(ctx, data, pipe.Work{Each: func(b *pipe.Block) error {
			for _, p := range b.Pieces {
				for x := range p.Data() {
					err := d.write(func() error {
						_, err := f.WriteAt(x.Bytes, int64(x.Addr-m.Start))
						return err
					})
					if err != nil {
						return err
					}
				}
				d.written.Add(int64(len(p.Bytes)))
			}
			return nil
		}})
		if err != nil {
			return err
		}
		d.file(name)
		return f.Close()
	})
	if err != nil {
		return err
	}
	b, err := d.indexJSON()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir.Partial(), indexName), b, 0o600); err != nil {
		return err
	}
	done = true
	return dir.Commit()
}

func (d *dumper) toTar(ctx context.Context, w io.Writer) error {
	if _, err := d.measure(); err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	zeros := make([]byte, 64<<10)
	err := d.each(ctx, "", func(ctx context.Context, m *procmem.Mapping, data []procmem.Range) error {
		for _, r := range stretches(data) {
			name := fileName(r.Range)
			if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(r.Size()), Format: tar.FormatPAX}); err != nil {
				return err
			}
			at := r.Start
			upTo := func(a procmem.Addr) error { // unreadable memory is zeros
				for at < a {
					n, err := tw.Write(zeros[:min(uint64(len(zeros)), uint64(a-at))])
					if err != nil {
						return err
					}
					at += procmem.Addr(n)
				}
				return nil
			}
			err := d.copy(ctx, r.data, pipe.Work{Emit: func(b *pipe.Block) error {
				for _, p := range b.Pieces {
					if err := upTo(p.Addr); err != nil {
						return err
					}
					n, err := tw.Write(p.Bytes)
					d.written.Add(int64(n))
					if at += procmem.Addr(n); err != nil {
						return err
					}
				}
				return nil
			}})
			if err != nil {
				return err
			}
			if err := upTo(r.End); err != nil {
				return err
			}
			d.file(name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b, err := d.indexJSON()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: indexName, Mode: 0o600, Size: int64(len(b)), Format: tar.FormatPAX}); err != nil {
		return err
	}
	if _, err := tw.Write(b); err != nil {
		return err
	}
	return tw.Close()
}

// copy runs the work on what can be read of ranges, and notes the rest.
func (d *dumper) copy(ctx context.Context, data []procmem.Range, w pipe.Work) error {
	faults, err := d.pipe.Run(ctx, d.mem, func(yield func(pipe.Extent) bool) {
		for _, r := range data {
			if !yield(pipe.Extent{Range: r}) {
				return
			}
		}
	}, w)
	d.index.Missing = append(d.index.Missing, missingOf(faults)...)
	return err
}

// each calls f with every mapping of a moment of the target that holds data, and the ranges
// with the data. folder is the folder that f writes to, or "" for a stream.
func (d *dumper) each(ctx context.Context, folder string, f func(context.Context, *procmem.Mapping, []procmem.Range) error) error {
	d.index.Target = d.target.Word
	d.index.Missing = []missing{}
	d.index.Mappings = []dumpMapping{}
	if d.target.Core != nil {
		d.index.Method = "core"
		d.write = func(f func() error) error { return f() }
		return d.eachOf(ctx, d.target.Core, f)
	}
	p := d.target.Process
	o := capture.Options{Method: d.method, Spool: capture.SpoolIn(os.TempDir()), OnEvent: d.progress.event(p)}
	r, err := capture.Memory(ctx, p, folder, o, func(ctx context.Context, m *capture.Moment) error {
		d.pipe.Background = m.Over
		d.write = m.Write
		return d.eachOf(ctx, m, f)
	})
	if r != nil {
		d.index.Method, d.index.PauseMS = r.Method, r.PauseMS
	}
	return worded(err, p, notThisDump)
}

func (d *dumper) eachOf(ctx context.Context, mem procmem.Sparse, f func(context.Context, *procmem.Mapping, []procmem.Range) error) error {
	d.mem = mem
	d.progress.enter("writing")
	d.progress.count(d.written.Load, int64(d.size))
	defer func() { d.index.MemoryBytes = uint64(d.written.Load()) }()
	ms, err := mem.Mappings()
	if err != nil {
		return onTarget(d.target, err)
	}
	for i := range ms {
		m := &ms[i]
		d.index.Mappings = append(d.index.Mappings, dumpMapping{Range: m.Range, Perm: m.Perm, Offset: m.Offset, Path: m.Path, Files: []string{}})
		if m.Special() && m.Path != "[vdso]" {
			continue
		}
		data, lost, err := d.dataOf(mem, m.Range)
		if err != nil {
			return onTarget(d.target, err)
		}
		d.index.Missing = append(d.index.Missing, missingOf(lost)...)
		if len(data) == 0 {
			continue
		}
		if err := f(ctx, m, data); err != nil {
			return err
		}
	}
	return nil
}

// stretch is a part of a mapping that goes into one file of an archive: data, and small gaps
// without data.
type stretch struct {
	procmem.Range
	data []procmem.Range
}

// dataOf returns where a mapping holds data, and which of it is known to be missing. A core
// file may promise any amount of memory, and hold none of it.
func (d *dumper) dataOf(mem procmem.Sparse, m procmem.Range) (data []procmem.Range, lost []procmem.Fault, err error) {
	for r, err := range mem.Data(m) {
		if err != nil {
			return nil, nil, err
		}
		for d.target.Core != nil && !r.Empty() {
			_, err := mem.ReadAt(make([]byte, 1), r.Start)
			f, ok := errors.AsType[*procmem.FaultError](err)
			if !ok || f.Until <= r.Start {
				break
			}
			end := min(f.Until, r.End)
			lost = append(lost, procmem.Fault{Range: procmem.Range{Start: r.Start, End: end}, Err: f.Err})
			r.Start = end
		}
		if !r.Empty() {
			data = append(data, r)
		}
	}
	return data, lost, nil
}

// stretches joins data with small gaps between.
func stretches(data []procmem.Range) []stretch {
	const gap = 64 << 10
	var out []stretch
	for _, r := range data {
		if k := len(out); k > 0 && r.Start-out[k-1].End <= gap {
			out[k-1].End = r.End
			out[k-1].data = append(out[k-1].data, r)
			continue
		}
		out = append(out, stretch{r, []procmem.Range{r}})
	}
	return out
}

func fileName(r procmem.Range) string { return r.String() + ".bin" }

const indexName = "index.json"

// ourName reports whether a file in a folder may be of a dump.
func ourName(name string) bool {
	return name == indexName || strings.HasPrefix(name, "0x") && strings.HasSuffix(name, ".bin")
}

// file notes a file of the current mapping.
func (d *dumper) file(name string) {
	m := &d.index.Mappings[len(d.index.Mappings)-1]
	m.Files = append(m.Files, name)
}

func (d *dumper) indexJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := newJSONEncoder(&b)
	enc.SetIndent("", " ")
	err := enc.Encode(&d.index)
	return b.Bytes(), err
}

// tell prints what was done: on stdout, unless that holds the data.
func (d *dumper) tell(g *globals, out string) error {
	w := os.Stdout
	if out == "-" {
		w, out = os.Stderr, "the stream"
	}
	if g.json {
		if err := writeJSON(w, &d.index); err != nil {
			return stdoutError(err)
		}
	} else {
		held := ""
		if d.index.Method == string(snapshot.MethodStop) {
			held = ", the process was held for " + duration(d.index.PauseMS)
		}
		term.Fprintf(w, "%s: %s of %s%s\n", out, units.Size(d.index.MemoryBytes), count(len(d.index.Mappings), "mapping"), held)
	}
	var more uint64 // bytes
	for i, m := range d.index.Missing {
		if i < mostLines {
			notice("missing %v: %s (%s)", m.Range, m.Error, bytesOf(m.Bytes))
		} else {
			more += m.Bytes
		}
	}
	if n := len(d.index.Missing) - mostLines; n > 0 {
		notice("missing %s more, %s (index.json lists them)", count(n, "range"), bytesOf(more))
	}
	if len(d.index.Missing) > 0 {
		return statusError(exitMissing)
	}
	return nil
}
