package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sink"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/upload"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
	"github.com/procmem/procmem/target"
)

// coreJob is one call of core or gcore.
type coreJob struct {
	prefix   string
	all      bool
	force    bool
	json     bool
	gcore    bool // speak as gcore does
	method   methodFlag
	maxPause pauseFlag
	compress compressFlag

	progress *progress // of the core that is being taken
	packer   *packer   // what compresses it, nil for nothing
}

// enter tells what comes next.
func (j *coreJob) enter(phase string) {
	if j.packer != nil {
		j.packer.hurry(phase != "paused")
	}
	j.progress.enter(phase)
}

func newCore(g *globals) *cobra.Command {
	job := &coreJob{method: methodFlag(snapshot.MethodAuto)}
	cmd := g.addJSON(&cobra.Command{
		Use:   "core PID...",
		Short: "Take a core of each process, which goes on unharmed",
		Long: `Take a core of each process into the file PREFIX.PID, as gcore does. The
process goes on afterwards, whatever happens to procmem.

Which mappings go into the core is decided by /proc/PID/coredump_filter
(core(5)), as for a core that the kernel writes. Memory that was never touched
and pages of zeros are holes in the file.

The methods differ in how long the process is held (docs/pause.md):
  stop     while its memory is copied
  fork     while it makes a copy of itself, which is then read
  precopy  while the pages are copied that it wrote during the copy
  live     not at all: the core may be torn and has few registers, and says so
  auto     the one that costs the process least and meets --max-pause, or, where
           that is not given, 20 milliseconds if that is possible at all`,
		Example: "  procmem core 1234\n  procmem core -o /var/tmp/core 1234 5678\n  procmem core -o - 1234 | ssh host 'cat > core.1234'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exactly("PID")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			job.json = g.json
			return undoing(func(ctx context.Context) error { return job.run(ctx, args) })
		},
	})
	cmd.Flags().StringVarP(&job.prefix, "output", "o", "core", "write to PREFIX.PID, which may be s3://BUCKET/PREFIX; or with - one core to stdout")
	cmd.Flags().BoolVarP(&job.all, "all", "a", false, "dump all mappings, whatever coredump_filter and MADV_DONTDUMP say")
	addMethod(cmd, &job.method)
	cmd.Flags().Var(&job.maxPause, "max-pause", "refuse, before anything is stopped, what would hold the process for longer, such as 20ms")
	cmd.Flags().Var(&job.compress, "compress", "compress the core, into PREFIX.PID.zst; every command reads it as it is")
	complete(cmd, "compress", "zstd")
	cmd.Flags().BoolVar(&job.force, "force", false, "replace an existing file")
	return cmd
}

// run takes the cores one after the other; one that fails does not keep the
// others from being taken.
func (j *coreJob) run(ctx context.Context, words []string) error {
	if j.prefix == "" {
		return usagef("the output prefix is empty")
	}
	if j.prefix == "-" {
		switch {
		case len(words) > 1:
			return usagef("-o - takes one process: a stream holds one core")
		case term.IsTerminal(os.Stdout):
			return usagef("a core is not written to a terminal: use -o PREFIX, or a pipe")
		}
	}
	status := exitDone
	for i, w := range words {
		s := exitStatus(j.one(ctx, w))
		if status == exitDone || s == exitFailed {
			status = s
		}
		if ctx.Err() != nil {
			if i < len(words)-1 { // the last one may have been done in time
				status = exitStatus(fmt.Errorf("%w: no core of %s", context.Cause(ctx), strings.Join(words[i+1:], ", ")))
			}
			break
		}
	}
	if status != exitDone {
		return statusError(status)
	}
	return nil
}

// one takes one core.
func (j *coreJob) one(ctx context.Context, word string) error {
	pid, err := target.PID(word)
	if err != nil {
		return err
	}
	p, err := process.Open(pid)
	if err != nil {
		return &target.ProcessError{PID: pid, Err: err}
	}
	defer p.Close()
	if pid == os.Getpid() && snapshot.Method(j.method) != snapshot.MethodLive {
		return usagef("procmem cannot hold itself still: use --method live")
	}
	j.progress = startProgress(fmt.Sprintf("process %d", pid))
	defer j.progress.end()
	take, out := j.stream, os.Stdout
	switch {
	case j.isFile() && j.compress == "":
		take = j.file
	case j.isFile():
		take = j.packedFile
	case j.prefix == "-":
		out = os.Stderr
	}
	r, err := take(ctx, p)
	j.progress.end()
	if err != nil {
		return err
	}
	return j.tell(out, r)
}

// file takes a core into a file. All that can be known to fail fails before
// the process is stopped.
func (j *coreJob) file(ctx context.Context, p *process.Process) (*core.Report, error) {
	began := time.Now()
	path := j.name(p)
	filter, plan, err := j.plan(p)
	if err != nil {
		return nil, err
	}
	if err := checkRoom(path, plan.disk, plan.length); err != nil {
		return nil, err
	}
	f, err := sink.Create(path, j.force)
	if err != nil {
		return nil, err
	}
	defer f.Abort() // nothing is left unless Commit has come first
	if err := f.Reserve(int64(plan.disk)); err != nil {
		return nil, fmt.Errorf("write %s: no room: %w (nothing was stopped)", path, err)
	}
	w, err := core.NewFileWriter(f, plan.arch, plan.segs)
	if err != nil {
		return nil, err
	}
	j.progress.count(w.Written, int64(plan.disk))
	// What is copied before the mappings are final goes to where it belongs.
	r, err := j.take(ctx, p, filter, w, func(s *snapshot.Snapshot, segs []core.Segment) (*core.Writer, error) {
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
	filter, plan, err := j.plan(p)
	if err != nil {
		return nil, err
	}
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
	r, err := j.take(ctx, p, filter, store, func(s *snapshot.Snapshot, segs []core.Segment) (*core.Writer, error) {
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
	filter, plan, err := j.plan(p)
	if err != nil {
		return nil, err
	}
	size := plan.length + plan.length/512 + 1<<20 // notes and checksums
	if j.compress != "" {
		size = plan.disk + plan.disk/512 + 1<<20
	}
	dest, err := openDestination(ctx, j.name(p), size, j.force)
	if err != nil {
		return nil, err
	}
	defer dest.abort()
	spool, done, err := newSpool(os.TempDir(), plan.disk, snapshot.Method(j.method))
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
	r, err := j.take(ctx, p, filter, store, func(s *snapshot.Snapshot, segs []core.Segment) (*core.Writer, error) {
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
	r.Path = dest.place()
	r.TotalMS = milliseconds(time.Since(began))
	return r, nil
}

// name is what the core of a process is called.
func (j *coreJob) name(p *process.Process) string {
	if j.prefix == "-" {
		return "-"
	}
	return j.prefix + "." + strconv.Itoa(p.PID()) + j.compress.suffix()
}

// isFile reports whether the core becomes a file here.
func (j *coreJob) isFile() bool { return j.prefix != "-" && !upload.IsURL(j.prefix) }

// plan finds out, before anything is stopped, what the core will be.
func (j *coreJob) plan(p *process.Process) (core.Filter, *plan, error) {
	filter, err := j.filter(p)
	if err != nil {
		return 0, nil, onProcess(p, err)
	}
	plan, err := newPlan(p, filter)
	return filter, plan, onProcess(p, err)
}

// newWriter begins, or goes on with, the core of a moment.
type newWriter func(*snapshot.Snapshot, []core.Segment) (*core.Writer, error)

// take is the way of every core: a moment, the copy, and the report.
func (j *coreJob) take(ctx context.Context, p *process.Process, filter core.Filter, store snapshot.Store, open newWriter) (r *core.Report, err error) {
	began := time.Now()
	s, err := snapshot.Take(ctx, p, snapshot.Options{
		Method: snapshot.Method(j.method), MaxPause: time.Duration(j.maxPause), Store: store,
		Want: wants(filter), Phase: j.enter,
	})
	if err != nil {
		return nil, onProcess(p, err)
	}
	defer func() {
		if cerr := s.Close(); err == nil && cerr != nil {
			err = onProcess(p, cerr)
		}
	}()
	w, err := open(s, core.Select(s.Program(), s, filter))
	if err != nil {
		return nil, err
	}
	w.Background = s.Over()
	if s.Over() || s.Method == snapshot.MethodLive {
		j.enter("writing")
	} else {
		j.enter("paused, writing")
	}
	if err := w.Copy(ctx, s); err != nil {
		return nil, err
	}
	if err := s.Whole(); err != nil {
		return nil, onProcess(p, err)
	}
	pause := s.Release()
	r = &core.Report{
		Version: version, Time: s.Taken(), PID: p.PID(), Method: string(s.Method),
		Rounds: s.Rounds, Why: s.Why,
		Consistent: s.Method != snapshot.MethodLive, PauseMS: milliseconds(pause),
		TotalMS: milliseconds(time.Since(began)),
	}
	if j.prefix != "-" {
		r.Path = j.name(p)
	}
	if !r.Consistent {
		r.InconsistentReason = "the process went on running while its memory was copied"
	}
	for _, t := range s.Torn {
		r.Torn = append(r.Torn, core.Torn{Range: t.Range, Bytes: t.Size(), Reason: t.Reason})
	}
	return r, w.Finish(s.Image(), r)
}

// wants tells a snapshot what a core will hold.
func wants(filter core.Filter) func(*procmem.Image, procmem.Memory) []procmem.Range {
	return func(img *procmem.Image, mem procmem.Memory) []procmem.Range {
		return dumped(core.Select(img, mem, filter))
	}
}

func dumped(segs []core.Segment) (ranges []procmem.Range) {
	for _, s := range segs {
		if s.Dumped {
			ranges = append(ranges, s.Range)
		}
	}
	return ranges
}

func (j *coreJob) filter(p *process.Process) (core.Filter, error) {
	if j.all {
		return core.FilterAll, nil
	}
	bits, err := p.CoredumpFilter()
	return core.Filter(bits), err
}

// plan is what a core of a running process would be.
type plan struct {
	arch   procmem.Arch
	segs   []core.Segment
	disk   uint64 // bytes that it would take at most; notes come to little more
	length uint64 // of the file, with its holes
}

func newPlan(p *process.Process, filter core.Filter) (*plan, error) {
	img, err := liveImage(p)
	if err != nil {
		return nil, err
	}
	v, err := p.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	img.Mappings, _ = v.Mappings()
	out := &plan{arch: img.Arch, segs: core.Select(img, v, filter)}
	out.length, out.disk, err = held(out.segs, v)
	return out, err
}

// checkRoom compares what is to be written with the room for it: the limit on
// the size of a file counts holes too.
func checkRoom(path string, want, length uint64) error {
	have, err := sink.Room(path)
	if err != nil {
		return err
	}
	if want > have {
		return fmt.Errorf("write %s: no room: about %s are needed and %s is free there; choose another place with -o, or a stream with -o - (nothing was stopped)",
			path, term.Size(want), term.Size(have))
	}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &lim) == nil && length > lim.Cur {
		return fmt.Errorf("write %s: the limit on file sizes is %s and the file would have about %s, holes included: raise the limit with ulimit -f (nothing was stopped)",
			path, term.Size(lim.Cur), term.Size(length))
	}
	return nil
}

// tell prints what was done, and on stderr what is missing.
func (j *coreJob) tell(w *os.File, r *core.Report) error {
	switch {
	case j.json:
		if err := writeJSON(w, r); err != nil {
			return err
		}
	default:
		where := r.Path
		if where == "" {
			where = "the stream"
		}
		fmt.Fprintf(w, "%s: process %d, %s of memory, %s, %s\n", where, r.PID, term.Size(r.MemoryBytes),
			count(r.Threads, "thread"), count(r.Mappings, "mapping"))
		held := "the process was not held: the memory may be torn"
		if r.Consistent {
			held = fmt.Sprintf("the process was held for %s", duration(r.PauseMS))
		}
		fmt.Fprintf(w, "method %s took %s; %s\n", r.Method, duration(r.TotalMS), held)
		if n := len(r.Torn) + r.TornMore; n > 0 {
			fmt.Fprintf(w, "%s may be of another moment: procmem info tells which\n", count(n, "range"))
		}
		fmt.Fprintf(w, "%s on disk, file length %s; %s\n", term.Size(uint64(r.DiskBytes)), term.Size(uint64(r.FileBytes)), missingText(r))
		if j.gcore {
			fmt.Fprintf(w, "Saved corefile %s.%d\n", j.prefix, r.PID)
		}
	}
	for _, m := range r.Missing {
		fmt.Fprintf(os.Stderr, "procmem: missing %v: %s (%s)\n", m.Range, m.Error, bytesOf(m.Bytes))
	}
	if r.MissingMore > 0 {
		fmt.Fprintf(os.Stderr, "procmem: missing %d more ranges, %d bytes\n", r.MissingMore, r.MissingMoreBytes)
	}
	if r.Consistent {
		for _, t := range r.ThreadsMissing {
			fmt.Fprintf(os.Stderr, "procmem: thread %d: %s\n", t.TID, t.Error)
		}
	}
	if len(r.Missing) > 0 || r.Consistent && len(r.ThreadsMissing) > 0 {
		return statusError(exitMissing)
	}
	return nil
}

func missingText(r *core.Report) string {
	if len(r.Missing) == 0 {
		return "no memory is missing"
	}
	n := r.MissingMoreBytes
	for _, m := range r.Missing {
		n += m.Bytes
	}
	return fmt.Sprintf("%s missing in %s", term.Size(n), count(len(r.Missing)+r.MissingMore, "range"))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// duration prints milliseconds with three digits or so.
func duration(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
