package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
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

	guard    *guard    // of the file that is written, nil for none
	oldGDB   bool      // an old gdb warns of the core that was taken
	progress *progress // of the core that is being taken
	packer   *packer   // what compresses it, nil for nothing
}

// enter tells what comes next. Only the first round compresses, and what comes
// after the pause. To change the number of processors, all goroutines have to
// stop, which takes its time where the process keeps the machine busy: that is
// over before the last round, not between it and the pause.
func (j *coreJob) enter(phase string) {
	if j.packer != nil {
		again := strings.HasPrefix(phase, "round ") && phase != "round 1"
		j.packer.hurry(!again && phase != "paused")
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
           that is not given, 20 milliseconds if that is possible at all

Environment and signals: what is copied ahead of a stream waits in TMPDIR. An
upload to s3:// takes AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
AWS_SESSION_TOKEN, or AWS_PROFILE of the files in ~/.aws, or a role; AWS_REGION
and AWS_ENDPOINT_URL say where to. SIGUSR1 prints how far it is. SIGINT, SIGTERM,
SIGQUIT and SIGHUP let the process go and remove what is half-written.`,
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
	cmd.Flags().StringVarP(&job.prefix, "output", "o", "core", "write to PREFIX.PID, which may be s3://BUCKET/PREFIX; FOLDER/, with the slash, stands for FOLDER/core; - is stdout, for one core")
	cmd.Flags().BoolVarP(&job.all, "all", "a", false, "dump all mappings, whatever coredump_filter and MADV_DONTDUMP say")
	addMethod(cmd, &job.method)
	cmd.Flags().Var(&job.maxPause, "max-pause", "refuse, before anything is stopped, what is expected to hold the process for longer, such as 20ms; it bounds an estimate, and what took longer all the same is told")
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
	if err := checkURL(j.prefix); err != nil {
		return err
	}
	if !j.gcore {
		j.prefix = inFolder(j.prefix)
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

// inFolder makes a prefix of what names a folder or a bucket.
func inFolder(prefix string) string {
	switch {
	case upload.IsURL(prefix):
		if strings.Count(prefix, "/") == 2 {
			return prefix + "/core"
		}
	case prefix == "." || prefix == ".." || strings.HasSuffix(prefix, "/.") || strings.HasSuffix(prefix, "/.."):
		return prefix + "/core"
	}
	if strings.HasSuffix(prefix, "/") {
		return prefix + "core"
	}
	return prefix
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
	tellWaits(p)
	if isSelf(pid) && snapshot.Method(j.method) != snapshot.MethodLive {
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
	if err != nil && j.isFile() {
		return noRoom(err)
	}
	if err != nil {
		return err
	}
	return j.tell(out, r)
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
func (j *coreJob) plan(p *process.Process) (*plan, error) {
	filter, err := j.filter(p)
	if err != nil {
		return nil, onProcess(p, err)
	}
	plan, err := newPlan(p, filter)
	return plan, onProcess(p, err)
}

// newWriter begins, or goes on with, the core of a moment.
type newWriter func(*snapshot.Snapshot, []core.Segment) (*core.Writer, error)

// take is the way of every core: a moment, the copy, and the report.
func (j *coreJob) take(ctx context.Context, p *process.Process, plan *plan, store snapshot.Store, open newWriter) (r *core.Report, err error) {
	began := time.Now()
	s, err := snapshot.Take(ctx, p, snapshot.Options{
		Method: snapshot.Method(j.method), MaxPause: time.Duration(j.maxPause), Store: store,
		Want: wants(plan.filter), Phase: j.enter, Look: plan.look,
	})
	if err != nil {
		return nil, onProcess(p, err)
	}
	defer func() {
		if cerr := endMoment(p, s); err == nil && cerr != nil {
			err = onProcess(p, cerr)
		}
	}()
	w, err := open(s, core.Select(s.Program(), s, plan.filter))
	if err != nil {
		return nil, err
	}
	w.Background = s.Over()
	if j.guard != nil {
		j.guard.hold(!s.Over() && s.Method != snapshot.MethodLive)
		defer j.guard.hold(false)
	}
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
	if j.guard != nil {
		j.guard.hold(false)
	}
	r = &core.Report{
		Version: version, Time: s.Taken(), PID: p.PID(), Method: string(s.Method),
		Rounds: s.Rounds, Why: s.Why,
		PauseMS: milliseconds(pause), TotalMS: milliseconds(time.Since(began)),
	}
	if j.prefix != "-" {
		r.Path = j.name(p)
	}
	for _, t := range s.Torn {
		r.Torn = append(r.Torn, core.Torn{Range: t.Range, Bytes: t.Size(), Reason: t.Reason})
	}
	r.InconsistentReason = inconsistent(s)
	r.Consistent = r.InconsistentReason == ""
	img := s.Image()
	j.oldGDB = warnsOldGDB(img)
	return r, w.Finish(img, r)
}

// inconsistent tells why not all of a moment is one, "" where it is.
func inconsistent(s *snapshot.Snapshot) string {
	var size uint64
	for _, t := range s.Torn {
		size += t.Size()
	}
	switch {
	case s.Method == snapshot.MethodLive:
		return "the process went on running while its memory was copied"
	case len(s.Unheld) > 0:
		return strings.Join(s.Unheld, "; ")
	case size > 0:
		return fmt.Sprintf("%s in %s may be of another moment", term.Size(size), count(len(s.Torn), "range"))
	}
	return ""
}

// wasHeld reports whether the process of a core was held, and its registers are
// known.
func wasHeld(r *core.Report) bool { return r.Method != string(snapshot.MethodLive) }

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
		term.Fprintf(w, "%s: process %d, %s of memory, %s, %s\n", where, r.PID, term.Size(r.MemoryBytes),
			count(r.Threads, "thread"), count(r.Mappings, "mapping"))
		held := "the process was not held: the memory may be torn"
		if wasHeld(r) {
			held = fmt.Sprintf("the process was held for %s", duration(r.PauseMS))
		}
		term.Fprintf(w, "method %s took %s; %s\n", r.Method, duration(r.TotalMS), held)
		if wasHeld(r) && !r.Consistent {
			term.Fprintf(w, "not all of it is of one moment: %s%s\n", r.InconsistentReason, seeInfo(r))
		}
		written := "on disk"
		if !j.isFile() {
			written = "written"
		}
		term.Fprintf(w, "%s %s, file length %s; %s\n", term.Size(uint64(r.DiskBytes)), written, term.Size(uint64(r.FileBytes)), missingText(r))
		if j.oldGDB {
			term.Fprintf(w, "%s\n", oldGDB)
		}
		if j.gcore {
			term.Fprintf(w, "Saved corefile %s.%d\n", j.prefix, r.PID)
		}
	}
	if text := beyondBound(r, time.Duration(j.maxPause)); text != "" {
		notice("%s", text)
	}
	for _, m := range r.Missing {
		term.Fprintf(os.Stderr, "procmem: missing %v: %s (%s)\n", m.Range, m.Error, bytesOf(m.Bytes))
	}
	if r.MissingMore > 0 {
		term.Fprintf(os.Stderr, "procmem: missing %d more ranges, %d bytes\n", r.MissingMore, r.MissingMoreBytes)
	}
	if wasHeld(r) {
		for _, t := range r.ThreadsMissing {
			term.Fprintf(os.Stderr, "procmem: thread %d: %s\n", t.TID, t.Error)
		}
	}
	if len(r.Missing) > 0 || wasHeld(r) && len(r.ThreadsMissing) > 0 {
		return statusError(exitMissing)
	}
	return nil
}

// seeInfo tells where the ranges are listed that are not of the moment.
func seeInfo(r *core.Report) string {
	if len(r.Torn) == 0 {
		return ""
	}
	return "; procmem info tells which"
}

// beyondBound tells where the process was held for longer than --max-pause, 0
// for no bound: what is compared with that beforehand is an estimate.
func beyondBound(r *core.Report, bound time.Duration) string {
	if bound == 0 || r.PauseMS <= milliseconds(bound) {
		return ""
	}
	return fmt.Sprintf("process %d was held for %s, longer than --max-pause %v: the machine, or what the core was written to, was busier than expected",
		r.PID, duration(r.PauseMS), bound)
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
