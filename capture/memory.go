package capture

import (
	"context"
	"fmt"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/pipe"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

// Moment is the memory of a process at one moment.
type Moment struct {
	procmem.Sparse
	// Over reports whether the process goes on while the memory is read. The reader should then
	// give way to it.
	Over bool

	guard *guard
}

// Write runs f, which writes what was read. If f takes too long while the process is held, the
// process is let go. The context of the capture then ends with snapshot.ErrStuck as its cause.
func (m *Moment) Write(f func() error) error { return m.guard.do(f) }

// Memory has f read the memory of one moment, all of it or some, and lets the process go on
// when f returns. folder is the folder that f writes to. "" means no folder, such as for a
// stream. Memory that f would read while the process is held is then spilled first. The report
// has no numbers of a file.
//
// Errors: *ProcessError for requests to the process, *SpoolError, those of f, and one for
// options of compression and of names.
func Memory(ctx context.Context, p *process.Process, folder string, o Options, f func(context.Context, *Moment) error) (*core.Report, error) {
	if err := o.noFile(); err != nil {
		return nil, err
	}
	all := core.FilterAll
	if o.Filter == nil {
		o.Filter = &all
	}
	j, ctx, err := begin(ctx, p, folder, o)
	if err != nil {
		return nil, err
	}
	defer j.guard.end()
	j.all = true
	var spool *sink.Spool
	defer func() {
		if spool != nil {
			spool.Close()
		}
	}()
	s, err := j.moment(ctx, folder == "", func(p *plan) (_ snapshot.Store, err error) {
		if spool, err = o.Spool.open(p.data, o.Method); err != nil || spool == nil {
			return nil, err
		}
		j.count(spool.Bytes, p.data)
		return spool, nil
	})
	if err != nil {
		return nil, err
	}
	err = f(ctx, &Moment{s, s.Over(), j.guard})
	pause, rerr := j.release(s)
	if err == nil {
		err = rerr
	}
	r := j.report(s, pause)
	if cerr := j.end(s); err == nil {
		err = cerr
	}
	return r, err
}

// Prediction is what a core of a process would be.
type Prediction struct {
	Image       *procmem.Image      // without the threads
	MemoryBytes uint64              // memory in the core, zeros included
	DataBytes   uint64              // the part of it that is more than holes in a file, at most
	Methods     []snapshot.Estimate // what is expected of each method
}

// Predict returns what a core of a process would be now. It holds nothing, and watches a
// process with much memory for 50 ms. If path is not "", and the core would not fit there as a
// file, it returns the prediction together with the error of ToFile.
func Predict(ctx context.Context, p *process.Process, path string, o Options) (*Prediction, error) {
	j, ctx, err := begin(ctx, p, "", o)
	if err != nil {
		return nil, err
	}
	defer j.guard.end()
	var out Prediction
	var fits error
	out.Methods, err = snapshot.Estimates(p, snapshot.Options{
		Want: j.wants(),
		Prepare: func(img *procmem.Image, mem procmem.Sparse) (snapshot.Store, error) {
			pl, err := j.plan(img, mem)
			if err != nil {
				return nil, err
			}
			out.Image, out.MemoryBytes, out.DataBytes = img, pl.length, pl.data
			if path != "" {
				out.DataBytes, fits = j.fit(ctx, pl, path)
				if fits != nil {
					out.DataBytes = pl.data
				}
			}
			return nil, nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("predict a core: %w", j.failed(err))
	}
	return &out, fits
}

// zeros returns how many bytes of the plan are in pages of zeros now.
func (p *plan) zeros(ctx context.Context) (uint64, error) {
	return pipe.CountZeros(ctx, p.mem, dumped(p.segs))
}
