package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

// The ways that a core goes: into a file, into a compressed one, and as a stream.

// file takes a core into a file. All that can be known to fail fails before
// the process is stopped.
func (j *coreJob) file(ctx context.Context, p *process.Process) (*core.Report, error) {
	began := time.Now()
	path := j.name(p)
	plan, err := j.plan(p)
	if err != nil {
		return nil, err
	}
	defer plan.close()
	// Before the room: a file system that is read-only is often full, too.
	f, err := sink.Create(path, j.force)
	if err != nil {
		return nil, err
	}
	defer f.Abort() // nothing is left unless Commit has come first
	plan.disk, err = fit(path, plan.disk, plan.length, notThisCore, func() (uint64, error) {
		j.progress.enter("looking for zeros")
		n, err := plan.zeros(ctx)
		return n, onProcess(p, err)
	})
	if err != nil {
		return nil, err
	}
	if err := f.Reserve(int64(plan.disk)); err != nil {
		return nil, fmt.Errorf("write %s: no room: %v; choose %s (nothing was stopped)", path, err, notThisCore)
	}
	j.guard, ctx = newGuard(ctx, filepath.Dir(path))
	defer j.guard.end()
	w, err := core.NewFileWriter(guardedFile{f, j.guard}, plan.arch, plan.segs)
	if err != nil {
		return nil, err
	}
	j.progress.count(w.Written, int64(plan.disk))
	// What is copied before the mappings are final goes to where it belongs.
	r, err := j.take(ctx, p, plan, w, func(s *snapshot.Snapshot, segs []core.Segment) (*core.Writer, error) {
		return w, w.Settle(segs)
	})
	if err != nil {
		return nil, err
	}
	j.progress.enter("to the disk")
	if err := f.Commit(); err != nil {
		return nil, err
	}
	if abs, err := filepath.Abs(path); err == nil {
		r.Path = abs
	}
	r.TotalMS = milliseconds(time.Since(began))
	onDisk(r, path)
	return r, nil
}

// onDisk corrects the report by what the file has become.
func onDisk(r *core.Report, path string) {
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		r.FileBytes, r.DiskBytes = st.Size, st.Blocks*512
	}
}

// packedFile takes a core into a compressed file. What is copied before the
// mappings are final is compressed at once, as long as it is likely to stay.
func (j *coreJob) packedFile(ctx context.Context, p *process.Process) (*core.Report, error) {
	began := time.Now()
	path := j.name(p)
	plan, err := j.plan(p)
	if err != nil {
		return nil, err
	}
	defer plan.close()
	f, err := sink.Create(path, j.force)
	if err != nil {
		return nil, err
	}
	defer f.Abort()
	// The spool may become as large as the core, beside it.
	spool, done, err := newSpool(filepath.Dir(path), 2*plan.disk, snapshot.Method(j.method))
	if err != nil {
		return nil, err
	}
	defer done()
	j.packer = newPacker()
	defer j.packer.close()
	j.packer.background.Store(true)
	file := sink.NewStream(f)
	log := packed.NewLog(file, pagesOf(spool), func(head int64) *packed.Writer { return j.packer.writer(file, head) })
	defer log.Abort()
	w, err := core.NewLogWriter(log, plan.arch, plan.segs)
	if err != nil {
		return nil, err
	}
	var store snapshot.Store
	if spool != nil {
		store = w
	}
	j.progress.count(w.Written, int64(plan.disk))
	r, err := j.take(ctx, p, plan, store, func(s *snapshot.Snapshot, segs []core.Segment) (*core.Writer, error) {
		if spool != nil {
			if err := s.Keep(ctx, w, dumped(segs)); err != nil {
				return nil, onProcess(p, err)
			}
		}
		j.packer.background.Store(s.Over())
		log.Confirm(s)
		return w, w.Settle(segs)
	})
	if err != nil {
		return nil, err
	}
	j.progress.enter("to the disk")
	for _, finish := range []func() error{log.Close, file.Flush, f.Commit} {
		if err := finish(); err != nil {
			return nil, err
		}
	}
	if abs, err := filepath.Abs(path); err == nil {
		r.Path = abs
	}
	r.DiskBytes = log.Written()
	r.TotalMS = milliseconds(time.Since(began))
	return r, nil
}

// pagesOf returns where a spool keeps pages, nil for no spool.
func pagesOf(s *sink.Spool) *pageset.Store {
	if s == nil {
		return nil
	}
	return s.Store
}

// stream takes a core from front to back, to stdout or an object store. What
// is copied before its place in the stream is known waits in a file without a
// name.
func (j *coreJob) stream(ctx context.Context, p *process.Process) (*core.Report, error) {
	began := time.Now()
	plan, err := j.plan(p)
	if err != nil {
		return nil, err
	}
	defer plan.close()
	size := plan.length + plan.length/512 + 1<<20 // notes and checksums
	if j.compress != "" {
		size = plan.disk + plan.disk/512 + 1<<20
	}
	dest, err := openDestination(ctx, j.name(p), size, j.force)
	if err != nil {
		return nil, err
	}
	defer dest.abort()
	spool, done, err := newSpool("", plan.disk, snapshot.Method(j.method))
	if err != nil {
		return nil, err
	}
	defer done()
	var store snapshot.Store
	if spool != nil {
		store = spool
		j.progress.count(spool.Bytes, int64(plan.disk))
	}
	var zst *packed.Writer
	if j.compress != "" {
		j.packer = newPacker()
		defer j.packer.close()
		zst = j.packer.writer(dest, 0)
		defer zst.Abort()
	}
	r, err := j.take(ctx, p, plan, store, func(s *snapshot.Snapshot, segs []core.Segment) (*core.Writer, error) {
		if spool != nil { // what a stream goes to may be slow
			if err := s.Keep(ctx, spool, dumped(segs)); err != nil {
				return nil, onProcess(p, err)
			}
		}
		out := dest.Writer
		if zst != nil {
			j.packer.background.Store(s.Over())
			out = zst
		}
		w, err := core.NewStreamWriter(out, s.Image(), segs)
		if err == nil {
			j.progress.count(w.Written, w.Size())
		}
		return w, err
	})
	if err == nil && zst != nil {
		if err = zst.Close(); err == nil {
			r.DiskBytes = zst.Written()
		}
	}
	if err == nil {
		j.progress.enter("finishing")
		err = dest.commit()
	}
	if err != nil {
		return nil, stdoutError(err)
	}
	r.Path = dest.name
	r.TotalMS = milliseconds(time.Since(began))
	return r, nil
}

// plan is what a core of a running process would be.
type plan struct {
	look   *snapshot.Look
	filter core.Filter
	arch   procmem.Arch
	segs   []core.Segment
	disk   uint64 // bytes that it would take at most; notes come to little more
	length uint64 // of the file, with its holes
}

func newPlan(p *process.Process, filter core.Filter) (*plan, error) {
	look, err := snapshot.LookAt(p)
	if err != nil {
		return nil, err
	}
	img, mem := look.Program(), look.Memory()
	out := &plan{look: look, filter: filter, arch: img.Arch, segs: core.Select(img, mem, filter)}
	if out.length, out.disk, err = held(out.segs, mem); err != nil {
		look.Close()
		return nil, err
	}
	return out, nil
}

// zeros returns how much of the plan is pages of zeros now, in bytes.
func (plan *plan) zeros(ctx context.Context) (uint64, error) {
	return zeros(ctx, plan.look.Memory(), dumped(plan.segs))
}

func (plan *plan) close() { plan.look.Close() }

// zeros returns how many bytes of pages of zeros there are now where data may
// be. What is swapped out is not read, which would bring it back.
func zeros(ctx context.Context, mem procmem.Sparse, ranges []procmem.Range) (uint64, error) {
	data := mem.Data
	if m, ok := mem.(procmem.Resident); ok {
		data = m.Resident
	}
	var n atomic.Uint64
	_, err := pipe.New().Run(ctx, mem, func(yield func(pipe.Extent) bool) {
		for _, r := range ranges {
			for d, err := range data(r) {
				if !yield(pipe.Extent{Range: d, Err: err}) {
					return
				}
			}
		}
	}, pipe.Work{Each: func(b *pipe.Block) error {
		for _, p := range b.Pieces {
			left := len(p.Bytes)
			for d := range p.Data() {
				left -= len(d.Bytes)
			}
			n.Add(uint64(left))
		}
		return nil
	}})
	return n.Load(), err
}

// fit compares what is to be written, want at most, with the room for it, and
// returns how much that is. Pages of zeros take none, but to find them memory
// has to be read: zeros does, which is only called where they matter. The limit on
// the size of a file counts holes too.
func fit(path string, want, length uint64, instead string, zeros func() (uint64, error)) (uint64, error) {
	have, err := sink.Room(path)
	if err == nil && want > have {
		var n uint64
		n, err = zeros()
		want -= min(n, want)
	}
	if err != nil {
		return 0, err
	}
	if want > have {
		return 0, fmt.Errorf("write %s: no room: about %s are needed and %s is free there; choose %s (nothing was stopped)",
			path, term.Size(want), term.Size(have), instead)
	}
	if lim := longestFile(); length > lim {
		return 0, fmt.Errorf("write %s: the limit on file sizes is %s and the file would have about %s, holes included: raise the limit with ulimit -f (nothing was stopped)",
			path, term.Size(lim), term.Size(length))
	}
	return want, nil
}

// longestFile is the limit on file sizes, in bytes.
func longestFile() uint64 {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &lim) != nil {
		return math.MaxUint64
	}
	return lim.Cur
}

// Where else a core or a dump can go.
const (
	notThisCore = "another place with -o, --compress zstd, or a stream with -o -"
	notThisDump = "another place with -o, or a stream with -o -"
)
