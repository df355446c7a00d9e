package capture

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

// ToFile takes a core into a new file of mode 0600. The file appears under its name only when
// it is whole. What can be known to fail fails before the process is stopped. A compressed core
// needs an unnamed file in the same folder for memory that is copied early.
//
// Errors: *ProcessError for requests to the process, *NoRoomError, *SpoolError, and os.ErrExist
// if the file exists and Replace is not set. snapshot.ErrStuck if the file system takes nothing
// while the process is held.
func ToFile(ctx context.Context, p *process.Process, path string, o Options) (*Result, error) {
	j, ctx, err := begin(ctx, p, filepath.Dir(path), o)
	if err != nil {
		return nil, err
	}
	defer j.guard.end()
	if j.abs = path; !filepath.IsAbs(path) {
		if abs, err := filepath.Abs(path); err == nil {
			j.abs = abs
		}
	}
	out := &fileOutput{job: j, path: path}
	defer out.abort()
	take := out.plain
	if o.Compress == Zstd {
		take = out.compressed
	}
	r, err := take(ctx)
	if err != nil {
		return nil, err
	}
	r.TotalMS = milliseconds(time.Since(j.began))
	return r, nil
}

// fileOutput is the file that a core becomes.
type fileOutput struct {
	*job
	path  string
	file  *sink.File // nil before it was begun
	spool *sink.Spool
	pool  *packed.Pool
	log   *packed.Log
}

// abort removes all traces, unless the file was committed.
func (f *fileOutput) abort() {
	if f.log != nil {
		f.log.Abort()
	}
	if f.pool != nil {
		f.pool.Close()
	}
	if f.spool != nil {
		f.spool.Close()
	}
	if f.file != nil {
		f.file.Abort()
	}
}

// plain takes an uncompressed core. Memory that is copied early goes to its final place.
func (f *fileOutput) plain(ctx context.Context) (*Result, error) {
	var w *core.Writer
	s, err := f.moment(ctx, false, func(p *plan) (_ snapshot.Store, err error) {
		w, err = f.beginPlain(ctx, p)
		return w, err
	})
	if err != nil {
		return nil, err
	}
	r, err := f.copy(ctx, s, func(segs []core.Segment) (*core.Writer, error) { return w, w.Settle(segs) })
	if cerr := f.end(s); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	f.o.tell(Event{Kind: EventFinishing})
	if err := f.file.Commit(); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if unix.Stat(f.path, &st) == nil {
		r.FileBytes, r.DiskBytes = st.Size, st.Blocks*512
	}
	return r, nil
}

func (f *fileOutput) beginPlain(ctx context.Context, p *plan) (*core.Writer, error) {
	// Create precedes the check of the room, because a read-only file system is often full,
	// too.
	var err error
	if f.file, err = sink.Create(f.path, f.o.Replace); err != nil {
		return nil, err
	}
	size, err := f.fit(ctx, p, f.path)
	if err != nil {
		return nil, err
	}
	if err := f.file.Reserve(int64(size)); err != nil {
		return nil, &NoRoomError{Path: f.path, Need: size, Err: err}
	}
	w, err := core.NewFileWriter(guardedFile{f.file, f.guard}, p.arch, p.segs)
	if err != nil {
		return nil, err
	}
	f.count(w.Written, size)
	return w, nil
}

// fit returns how many bytes the core takes. It fails with a *NoRoomError if there is less
// room.
func (j *job) fit(ctx context.Context, p *plan, path string) (uint64, error) {
	size, err := sink.Fit(path, p.data, p.length, func() (uint64, error) {
		j.o.tell(Event{Kind: EventZeros})
		n, err := p.zeros(ctx)
		return n, j.failed(err)
	})
	return size, roomError(err)
}

// compressed takes a compressed core. Memory that is copied early is compressed at once, as
// long as it is likely to stay.
func (f *fileOutput) compressed(ctx context.Context) (*Result, error) {
	var w *core.Writer
	var stream *sink.Stream
	s, err := f.moment(ctx, true, func(p *plan) (store snapshot.Store, err error) {
		if f.file, err = sink.Create(f.path, f.o.Replace); err != nil {
			return nil, err
		}
		if f.spool, err = SpoolIn(filepath.Dir(f.path)).open(2*p.data, f.o.Method); err != nil {
			return nil, err
		}
		f.pool = packed.NewPool()
		f.pool.Background.Store(true)
		stream = sink.NewStream(f.file)
		f.log = packed.NewLog(stream, pagesOf(f.spool), func(head int64) *packed.Writer { return f.pool.Writer(stream, head) })
		if w, err = core.NewLogWriter(f.log, p.arch, p.segs); err != nil {
			return nil, err
		}
		f.count(w.Written, p.data)
		if f.spool == nil {
			return nil, nil
		}
		return w, nil
	})
	if err != nil {
		return nil, err
	}
	f.pool.Background.Store(s.Over())
	f.log.Confirm(s)
	r, err := f.copy(ctx, s, func(segs []core.Segment) (*core.Writer, error) { return w, w.Settle(segs) })
	if cerr := f.end(s); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	f.o.tell(Event{Kind: EventFinishing})
	for _, finish := range []func() error{f.log.Close, stream.Flush, f.file.Commit} {
		if err := finish(); err != nil {
			return nil, err
		}
	}
	r.DiskBytes = f.log.Written()
	return r, nil
}

// pagesOf returns the pages of a spool, or nil for no spool.
func pagesOf(s *sink.Spool) *pageset.Store {
	if s == nil {
		return nil
	}
	return s.Store
}

// Unnamed takes a core into an unnamed file in the folder dir. "" means os.TempDir(). The file
// is gone when the core is closed or the program ends. It is not compressed. Errors are those
// of ToFile, and one for options of compression and of names.
func Unnamed(ctx context.Context, p *process.Process, dir string, o Options) (*core.File, *Result, error) {
	if err := o.noFile(); err != nil {
		return nil, nil, err
	}
	if dir == "" {
		dir = os.TempDir()
	}
	j, ctx, err := begin(ctx, p, dir, o)
	if err != nil {
		return nil, nil, err
	}
	defer j.guard.end()
	var f *os.File
	c, r, err := j.unnamed(ctx, dir, &f)
	if err != nil && f != nil {
		f.Close()
	}
	return c, r, err
}

func (j *job) unnamed(ctx context.Context, dir string, f **os.File) (*core.File, *Result, error) {
	var w *core.Writer
	s, err := j.moment(ctx, false, func(p *plan) (_ snapshot.Store, err error) {
		if have, err := regular.Room(filepath.Join(dir, "core")); err == nil && have < p.data {
			return nil, &NoRoomError{Path: dir, Need: p.data, Have: have}
		}
		if *f, err = regular.Unnamed(dir); err != nil {
			return nil, err
		}
		if w, err = core.NewFileWriter(*f, p.arch, p.segs); err != nil {
			return nil, err
		}
		j.count(w.Written, p.data)
		return w, nil
	})
	if err != nil {
		return nil, nil, err
	}
	r, err := j.copy(ctx, s, func(segs []core.Segment) (*core.Writer, error) { return w, w.Settle(segs) })
	if cerr := j.end(s); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := (*f).Stat()
	if err != nil {
		return nil, nil, err
	}
	c, err := core.NewReader(*f, info.Size())
	if err != nil {
		return nil, nil, err
	}
	c.Owns(*f)
	return c, r, nil
}
