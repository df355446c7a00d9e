package capture

import (
	"context"
	"io"
	"time"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

// Expecter is a writer that wants to know how much will be written to it.
type Expecter interface {
	io.Writer
	// Expect is called once, before anything is stopped, with about how many bytes will be
	// written. An error ends the capture.
	Expect(bytes uint64) error
}

// ToWriter takes a core to a writer, from front to back. One goroutine at a time calls Write.
// An Expecter is told the size before anything is stopped. After an error, what was written is
// of no use. core.NewReader opens a core that was written to memory, compressed or not.
//
// Errors: *ProcessError for requests to the process, *SpoolError, and those of w.
func ToWriter(ctx context.Context, p *process.Process, w io.Writer, o Options) (*Result, error) {
	j, ctx, err := begin(ctx, p, "", o)
	if err != nil {
		return nil, err
	}
	defer j.guard.end()
	t := &stream{job: j, w: w}
	defer t.close()
	s, err := j.moment(ctx, true, t.prepare)
	if err != nil {
		return nil, err
	}
	r, err := j.copy(ctx, s, func(segs []core.Segment) (*core.Writer, error) { return t.open(s, segs) })
	if cerr := j.end(s); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	if t.zst != nil {
		if err := t.zst.Close(); err != nil {
			return nil, err
		}
		r.DiskBytes = t.zst.Written()
	}
	r.TotalMS = milliseconds(time.Since(j.began))
	return r, nil
}

// stream is a core that goes to a writer.
type stream struct {
	*job
	w     io.Writer
	spool *sink.Spool
	pool  *packed.Pool
	zst   *packed.Writer
}

func (t *stream) prepare(p *plan) (store snapshot.Store, err error) {
	const noteShare, noteBytes = 512, 1 << 20 // room for notes and checksums: a share of the size, and a fixed part
	size := p.length
	if t.o.Compress == Zstd {
		size = p.data
	}
	if x, ok := t.w.(Expecter); ok {
		if err := x.Expect(size + size/noteShare + noteBytes); err != nil {
			return nil, err
		}
	}
	if t.spool, err = t.o.Spool.open(p.data, t.o.Method); err != nil {
		return nil, err
	}
	if t.o.Compress == Zstd {
		t.pool = packed.NewPool()
		t.zst = t.pool.Writer(t.w, 0)
	}
	if t.spool == nil {
		return nil, nil
	}
	t.count(t.spool.Bytes, p.data)
	return t.spool, nil
}

func (t *stream) open(s *snapshot.Snapshot, segs []core.Segment) (*core.Writer, error) {
	out := t.w
	if t.zst != nil {
		t.pool.Background.Store(s.Over())
		out = t.zst
	}
	w, err := core.NewStreamWriter(out, s.Image(), segs)
	if err == nil {
		t.count(w.Written, uint64(w.Size()))
	}
	return w, err
}

func (t *stream) close() {
	if t.zst != nil {
		t.zst.Abort()
	}
	if t.pool != nil {
		t.pool.Close()
	}
	if t.spool != nil {
		t.spool.Close()
	}
}
