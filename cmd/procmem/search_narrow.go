package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/candidates"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/search"
)

// everything makes candidates of all positions.
func (o *searchFlags) everything(ctx context.Context, g *globals, s *searched) error {
	if _, err := search.ParseType(o.typ); err != nil {
		return usageError{err}
	}
	save, err := newSaver(o.save, o.info(s))
	if err != nil {
		return err
	}
	defer save.abort()
	stats, err := candidates.EveryPosition(ctx, s.mem, search.Options{In: s.in, Swapped: o.swapped}, save.w)
	if err != nil {
		return o.narrowError(s, err)
	}
	trouble := tellSkipped("", stats, o.swapped)
	if err := save.commit(); err != nil {
		return err
	}
	if o.count {
		out := o.output(g, s, nil)
		if err := errors.Join(out.count("", save.w.Count(), false), out.end()); err != nil {
			return stdoutError(err)
		}
	}
	tellSaved(o.save, save.w.Count(), 0, false)
	return searchStatus(save.w.Count() > 0, trouble)
}

// info returns the description of the candidates of this search.
func (o *searchFlags) info(s *searched) candidates.Info {
	typ := search.Ptr // unless --type says something else
	if t, err := search.ParseType(o.typ); err == nil {
		typ = t
	}
	info := candidates.Info{Type: typ, Align: o.align, BigEndian: o.bigEndian, Word: s.word, Origin: s.origin()}
	if info.Align == 0 {
		info.Align = typ.Size(s.word)
	}
	return info
}

// origin returns what tells the target from others.
func (s *searched) origin() candidates.Origin {
	if c := s.Core; c != nil {
		return candidates.Origin{Core: s.Word}
	}
	p := s.Process
	o := candidates.Origin{PID: p.PID(), Start: p.StartTime()}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		o.Boot = strings.TrimSpace(string(b))
	}
	// Each program that a process executes gets another auxiliary vector, with other addresses.
	if arch, err := p.Arch(); err == nil {
		if auxv, err := p.Auxv(arch); err == nil {
			o.Program = crc32.ChecksumIEEE(auxv)
		}
	}
	return o
}

// sameTarget refuses candidates of another process. Those of a core may be used with all cores
// and processes, and those of a process with all cores. The user knows what these have in
// common.
func sameTarget(path string, was, now candidates.Origin) error {
	switch {
	case was.Core != "" || now.Core != "" || was == now:
		return nil
	case was.PID != now.PID:
		return fmt.Errorf("%s holds candidates of process %d, and this is process %d", path, was.PID, now.PID)
	case was.Boot != now.Boot || was.Start != now.Start:
		return fmt.Errorf("%s holds candidates of another process that had the pid %d before", path, was.PID)
	}
	return fmt.Errorf("%s holds candidates of the program that process %d was before it executed this one", path, was.PID)
}

// narrow looks at candidates again.
func (o *searchFlags) narrow(ctx context.Context, g *globals, s *searched) error {
	f, err := os.Open(o.from)
	if err != nil {
		return err
	}
	defer f.Close()
	from, err := candidates.Open(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return fmt.Errorf("%s: %w", o.from, err)
	}
	info := from.Info()
	if err := sameTarget(o.from, info.Origin, s.origin()); err != nil {
		return err
	}
	if typ, err := search.ParseType(o.typ); o.typ != "" && (err != nil || typ != info.Type) {
		return usagef("%s holds candidates of type %v: leave out --type %s", o.from, info.Type, o.typ)
	}
	n := candidates.Narrowing{Change: o.change(), Swapped: o.swapped}
	if o.in != nil || o.perm != "" {
		n.In = s.in
	}
	if o.set("value") {
		vo := info.Options()
		vo.Tolerance = o.tolerance
		value, err := search.ParseValue(info.Type, o.value, vo)
		if err != nil {
			return usageError{err}
		}
		n.Value = value.Holds
	}
	if o.watch {
		return o.watchCandidates(ctx, g, s, from, n)
	}
	var save *saver
	if o.save != "" {
		info.Origin = s.origin()
		if save, err = newSaver(o.save, info); err != nil {
			return err
		}
		defer save.abort()
		n.Save = save.w
	}
	return o.narrowInto(ctx, g, s, from, n, save)
}

func (o *searchFlags) narrowInto(ctx context.Context, g *globals, s *searched, from *candidates.Reader, n candidates.Narrowing, save *saver) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	info := from.Info()
	out := o.output(g, s, nil)
	most, printed := o.limit(), uint64(0)
	if !o.count {
		n.Each = func(c candidates.Candidate) bool {
			if err := out.candidate(c, &info); err != nil {
				cancel(ownError{stdoutError(err)})
			}
			printed++
			if printed == most && save == nil {
				cancel(errEnough)
			}
			return printed < most
		}
	}
	found, err := candidates.Narrow(ctx, s.mem, from, n)
	if err != nil && !errors.Is(err, errEnough) {
		_ = out.end() // prints what has been found
		return o.narrowError(s, err)
	}
	o.found = found.Kept > 0
	o.cut = save == nil && (printed == most || o.count && found.Kept-found.Swapped > most)
	if err = nil; o.count {
		err = out.count("", min(found.Kept-found.Swapped, most), false)
	}
	if err := cmp.Or(err, out.end()); err != nil {
		return stdoutError(err)
	}
	tellNarrowed(found)
	if save != nil {
		if err := save.commit(); err != nil {
			return err
		}
		tellSaved(o.save, save.w.Count(), printed, !o.count)
	}
	return searchStatus(found.Kept > 0, nil)
}

// ownError is an error that is not the target's.
type ownError struct{ error }

// ownWriter is a Writer that returns such errors.
type ownWriter struct{ w io.Writer }

func (o ownWriter) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		err = ownError{err}
	}
	return n, err
}

// narrowError says what an error is about: the files, stdout, or the target.
func (o *searchFlags) narrowError(s *searched, err error) error {
	if own, ok := errors.AsType[ownError](err); ok {
		return own.error
	}
	if _, ok := errors.AsType[*candidates.DamagedError](err); ok {
		return fmt.Errorf("%s: %w", o.from, err)
	}
	return s.wrap(err)
}

// errEnough reports that no more candidates are to be printed.
var errEnough = errors.New("enough")

func (o *searchFlags) change() candidates.Change {
	switch {
	case o.changed:
		return candidates.Changed
	case o.unchanged:
		return candidates.Unchanged
	case o.increased:
		return candidates.Increased
	case o.decreased:
		return candidates.Decreased
	}
	return candidates.AnyChange
}

// tellNarrowed prints which candidates could not be looked at.
func tellNarrowed(n candidates.Narrowed) {
	if n.Swapped > 0 {
		notice("%s swapped out, and kept: whether they still fit is not known (--swapped reads them, which brings them back into memory)", countCandidates(n.Swapped))
	}
	if n.Lost > 0 {
		notice("%s where nothing can be read any more", countCandidates(n.Lost))
	}
}

func countCandidates(n uint64) string { return count(int(n), "candidate") }

// tellSaved prints what is in a file of candidates, of which some were printed.
func tellSaved(path string, n, printed uint64, listed bool) {
	if n == 0 {
		what := "is as it was"
		if held, err := holdsCandidates(path); err == nil && !held {
			what = "is not written"
		}
		notice("no candidate: %s %s", path, what)
		return
	}
	if listed && n > printed {
		notice("%s in %s; %d not shown", countCandidates(n), path, n-printed)
		return
	}
	notice("%s in %s", countCandidates(n), path)
}

// saver writes a file of candidates.
type saver struct {
	path   string
	w      *candidates.Writer
	file   *sink.File
	stream *sink.Stream
	last   procmem.Addr
}

// newSaver begins a file. It replaces only another file of candidates.
func newSaver(path string, info candidates.Info) (*saver, error) {
	replace, err := holdsCandidates(path)
	if err == nil && replace {
		_, err = holdsCandidates(keptBefore(path)) // which is replaced, too
	}
	if err != nil {
		return nil, err
	}
	f, err := sink.Create(path, replace)
	if err != nil {
		return nil, err
	}
	s := &saver{path: path, file: f, stream: sink.NewStream(f)}
	if s.w, err = candidates.NewWriter(ownWriter{s.stream}, info); err != nil {
		f.Abort()
		return nil, err
	}
	return s, nil
}

// holdsCandidates reports whether a file of candidates exists. It fails for another file, which
// must not be replaced.
func holdsCandidates(path string) (bool, error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if st.Mode().IsRegular() {
		f, err := os.Open(path)
		if err != nil {
			return false, err
		}
		defer f.Close()
		if _, err := candidates.Open(f); !errors.Is(err, candidates.ErrFormat) {
			return true, nil // maybe damaged
		}
	}
	return false, fmt.Errorf("create %s: %w, and holds no candidates", path, fs.ErrExist)
}

// add adds a match. Two patterns may match at one address.
func (s *saver) add(a procmem.Addr, value []byte) error {
	if s.w.Count() > 0 && a == s.last {
		return nil
	}
	s.last = a
	return s.w.Add(a, value)
}

// commit completes the file. Where no candidate is in it, it does nothing: the one before may
// still be of use.
func (s *saver) commit() error {
	if s.w.Count() == 0 {
		return nil
	}
	if err := s.w.Close(); err != nil {
		return err
	}
	if err := s.stream.Flush(); err != nil {
		return err
	}
	return replaceKeeping(s.path, s.file.Commit)
}

// abort removes what was written, unless commit has been called.
func (s *saver) abort() { s.file.Abort() }
