package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/internal/upload"
)

func newPack() *cobra.Command {
	var out string
	var force bool
	cmd := &cobra.Command{
		Use:   "pack CORE",
		Short: "Compress a core so that every command still reads it as it is",
		Long: `Compress a core into CORE.zst, in the seekable zstd format: procmem reads it in
place, and zstd -d gives the core back. One that is compressed already, as a
whole (.zst, .gz), is compressed anew. The core itself stays.

Exit status: 3 where the core is cut off or damaged, and what is left of it is
compressed.`,
		Example: "  procmem pack core.1234\n  procmem pack -o /mnt/core.zst core.1234\n  procmem pack -o s3://bucket/core.zst core.1234",
		Args:    exactly("CORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return convert(args[0], out, force, true)
		},
	}
	addOutput(cmd, &out, &force, "CORE.zst")
	return cmd
}

func newUnpack() *cobra.Command {
	var out string
	var force bool
	cmd := &cobra.Command{
		Use:   "unpack CORE",
		Short: "Write a compressed core as it was, with holes for its zeros",
		Long: `Write a compressed core (.zst, .gz) as it was before it was compressed, into a
file of its name without the ending. Pages of zeros become holes, so it takes
no more room than what is used. The compressed core stays.

Exit status: 3 where it is cut off or damaged, and what is left of it is written:
what cannot be unpacked is told, and zeros.`,
		Example: "  procmem unpack core.1234.zst\n  procmem unpack -o core core.1234.gz\n  procmem unpack -o - core.1234.zst | sha256sum",
		Args:    exactly("CORE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return convert(args[0], out, force, false)
		},
	}
	addOutput(cmd, &out, &force, "CORE without .zst or .gz")
	return cmd
}

func addOutput(cmd *cobra.Command, out *string, force *bool, usual string) {
	cmd.Flags().StringVarP(out, "output", "o", "", "write to this `FILE`, to s3://BUCKET/NAME, or with - to stdout, instead of "+usual)
	cmd.Flags().BoolVar(force, "force", false, "replace an existing file")
}

// convert compresses a core, or undoes that.
func convert(path, out string, force, toPacked bool) error {
	if path == "-" {
		return usagef("a core is not read from a stream: write it into a file first")
	}
	err := checkURL(out)
	if err != nil {
		return err
	}
	p := startProgress(path)
	defer p.end()
	// A signal just ends this, which may take long. The temporary file has no name.
	src, err := openPacked(path, p)
	if err != nil {
		return err
	}
	defer src.Close()
	whole := src.Intact()
	if out == "" {
		if out, err = convertedName(path, toPacked); err != nil {
			return err
		}
	}
	if out == "-" && term.IsTerminal(os.Stdout) {
		return usagef("a core is not written to a terminal: use -o FILE, or a pipe")
	}
	if !toPacked && !src.Packed() {
		return fmt.Errorf("unpack %s: it is not compressed with zstd or gzip: %s", path, whatIsIt(src))
	}
	if err := isWhole(src); err != nil {
		if bad, ok := errors.AsType[*core.FormatError](err); ok && toPacked {
			return fmt.Errorf("pack %s: %w", path, bad)
		}
		p.notice("%s: what is in it is no whole core: %v", path, err)
		whole = false
	}
	var size int64
	var lost []procmem.Fault
	err = undoing(func(ctx context.Context) (err error) {
		if toPacked || out == "-" || upload.IsURL(out) {
			size, lost, err = convertStream(ctx, src, out, force, toPacked, p)
		} else {
			size, lost, err = unpackFile(ctx, src, out, force, p)
		}
		return err
	})
	p.end()
	if err != nil {
		return onOutput(out, err)
	}
	tellLost(path, pipe.Join(lost))
	if out != "-" {
		term.Fprintf(os.Stdout, "%s: %s, of a core of %s\n", out, units.Size(uint64(size)), units.Size(uint64(src.Size())))
	}
	if !whole || len(lost) > 0 { // notices have told this
		return statusError(exitMissing)
	}
	return nil
}

// openPacked opens a file that may be compressed.
func openPacked(path string, p *progress) (*packed.Source, error) {
	return packed.Open(path, packed.OpenOptions{
		Unpacking: func(why string, done func() int64, total int64) {
			p.notice("%s %s: unpacking it to a temporary file first", path, why)
			p.unpacking(done, total)
		},
		Notice: func(text string) { p.notice("%s", text) },
	})
}

// tellLost prints which parts of a file could not be read.
func tellLost(path string, lost []procmem.Fault) {
	var more uint64 // bytes
	for i, l := range lost {
		if i >= mostLines {
			more += l.Size()
			continue
		}
		notice("%s: offset %v: %v: %s are zeros in what was written", path, l.Range, l.Err, bytesOf(l.Size()))
	}
	if n := len(lost) - mostLines; n > 0 {
		notice("%s: %s more: %s are zeros in what was written", path, count(n, "part"), bytesOf(more))
	}
}

// onOutput adds a remedy to an error of the output. The remedy of noRoom is for files, and a
// stream is one already.
func onOutput(out string, err error) error {
	switch {
	case out == "-":
		return streamError(err)
	case upload.IsURL(out):
		return err
	}
	return noRoom(err)
}

// isWhole returns an error where the plain file is no core, is cut off, or has damaged headers
// or notes. It does not compare the memory.
func isWhole(src *packed.Source) error {
	head := make([]byte, 4)
	if _, err := src.ReadAt(head, 0); err == nil && packed.IsPacked(head) {
		return &core.FormatError{Msg: "not a core file: it is compressed twice: unpack it first (procmem unpack)"}
	}
	c, err := core.NewReader(src, src.Size())
	if err != nil {
		return err
	}
	defer c.Close()
	if bad := c.Damaged(); len(bad) > 0 { // headers, too, which can make it seem cut off
		return errors.New(bad[0].String())
	}
	if cut := c.Truncated(); len(cut) > 0 {
		return fmt.Errorf("%v: %w", cut[0].Range, cut[0].Err)
	}
	return nil
}

// whatIsIt says what a file is that has no known compression.
func whatIsIt(src *packed.Source) string {
	_, err := core.NewReader(src, src.Size())
	if bad, ok := errors.AsType[*core.FormatError](err); ok {
		return bad.Msg
	}
	if err != nil {
		return err.Error()
	}
	return "it is a core that can be used as it is"
}

// convertedName returns the usual name of what a core becomes.
func convertedName(path string, toPacked bool) (string, error) {
	plain := path
	for _, suffix := range []string{".zst", ".gz"} {
		plain = strings.TrimSuffix(plain, suffix)
	}
	switch {
	case toPacked && strings.HasSuffix(path, ".zst"):
		return "", usagef("%s has the name of a packed core: say where to with -o", path)
	case toPacked:
		return plain + ".zst", nil
	case plain == path:
		return "", usagef("%s ends neither with .zst nor with .gz: say where to with -o", path)
	}
	return plain, nil
}

// convertStream writes a core from front to back.
func convertStream(ctx context.Context, src *packed.Source, out string, force, toPacked bool, p *progress) (int64, []procmem.Fault, error) {
	dest, err := openDestination(ctx, out, uint64(src.Size()), force)
	if err != nil {
		return 0, nil, err
	}
	defer dest.abort()
	w := io.Writer(dest)
	zeros := func(n int64) error { return writeZeros(dest, n) }
	size := src.Size
	finish := func() error { return nil }
	if toPacked {
		pool := packed.NewPool()
		defer pool.Close()
		hurry(true)
		defer hurry(false)
		z := pool.Writer(dest, 0)
		defer z.Abort()
		w, zeros, finish, size = z, z.Zeros, z.Close, z.Written
	}
	var at int64
	lost, err := carry(ctx, src, p, pipe.Work{Emit: func(b *pipe.Block) error {
		for _, x := range b.Pieces {
			if err := zeros(int64(x.Addr) - at); err != nil {
				return err
			}
			n, err := w.Write(x.Bytes)
			if at = int64(x.Addr) + int64(n); err != nil {
				return err
			}
		}
		return nil
	}})
	if err == nil {
		err = zeros(src.Size() - at)
	}
	if err == nil {
		err = finish()
	}
	if err == nil {
		err = dest.commit()
	}
	return size(), lost, err
}

// fileMemory is a file as a Memory whose addresses are offsets.
type fileMemory struct {
	procmem.Memory
	src  *packed.Source
	done atomic.Int64
}

func (m *fileMemory) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	n, err := m.src.ReadAt(p, int64(addr))
	m.done.Add(int64(n))
	if n == len(p) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	fault := &procmem.FaultError{Addr: addr + procmem.Addr(n), Err: err}
	if frame, ok := errors.AsType[*packed.FrameError](err); ok {
		fault.Until = procmem.Addr(frame.End())
	}
	return n, fault
}

// carry runs the work on the parts of a file that are not known to be zeros. It returns those
// that cannot be read.
func carry(ctx context.Context, src *packed.Source, p *progress, w pipe.Work) ([]procmem.Fault, error) {
	mem := &fileMemory{src: src}
	p.enter("writing")
	p.count(mem.done.Load, src.Size())
	return pipe.New().Run(ctx, mem, func(yield func(pipe.Extent) bool) {
		for off := int64(0); ; {
			start, end := src.NextData(off)
			if start >= end || !yield(pipe.Extent{Range: procmem.Range{Start: procmem.Addr(start), End: procmem.Addr(end)}}) {
				return
			}
			off = end
		}
	}, w)
}

func writeZeros(w io.Writer, n int64) error {
	block := make([]byte, min(n, 64<<10))
	for n > 0 {
		m, err := w.Write(block[:min(n, int64(len(block)))])
		if n -= int64(m); err != nil {
			return err
		}
	}
	return nil
}

// writeData writes what is not zero to its place in a file.
func writeData(f io.WriterAt) pipe.Work {
	return pipe.Work{Each: func(b *pipe.Block) error {
		for _, x := range b.Pieces {
			for d := range x.Data() {
				if _, err := f.WriteAt(d.Bytes, int64(d.Addr)); err != nil {
					return err
				}
			}
		}
		return nil
	}}
}

// unpackFile writes a core with holes, and returns how many bytes it takes on the disk.
func unpackFile(ctx context.Context, src *packed.Source, out string, force bool, p *progress) (int64, []procmem.Fault, error) {
	f, err := sink.Create(out, force)
	if err != nil {
		return 0, nil, unforced(err)
	}
	defer f.Abort()
	lost, err := carry(ctx, src, p, writeData(f))
	if err == nil {
		err = f.Truncate(src.Size())
	}
	if err != nil {
		return 0, nil, err
	}
	if err := f.Commit(); err != nil {
		return 0, nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(out, &st); err != nil {
		return 0, nil, err
	}
	return st.Blocks * 512, lost, nil
}
