package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem/capture"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/units"
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
	gcore    bool // speaks as gcore does
	method   methodFlag
	maxPause pauseFlag
	compress compressFlag

	stacks   bool      // they are printed when the core has been written
	progress *progress // of the core that is being taken
}

func newCore(g *globals) *cobra.Command {
	job := &coreJob{method: methodFlag(snapshot.MethodAuto)}
	cmd := g.addJSON(&cobra.Command{
		Use:   "core TARGET...",
		Short: "Take a core of each process, which goes on unharmed",
		Long: `Take a core of each process into the file PREFIX.PID, as gcore does. The
process goes on afterwards, whatever happens to procmem.

Which mappings go into the core is decided by /proc/PID/coredump_filter
(core(5)), as for a core that the kernel writes. Memory that was never touched
and pages of zeros are holes in the file.

The methods differ in how long the process is held:
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
		Example: "  procmem core 1234; procmem open core.1234\n  procmem core --compress zstd -o /var/tmp/core 1234 5678\n" +
			"  procmem core -o s3://bucket/folder/core 1234\n  procmem core -o - 1234 | ssh host 'cat > core.1234'",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exactly("TARGET")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			job.json = g.json
			return undoing(func(ctx context.Context) error { return job.run(ctx, args) })
		},
	})
	cmd.Flags().StringVarP(&job.prefix, "output", "o", "core", "write to `PREFIX`.PID; it may be s3://BUCKET/PREFIX; a folder stands for FOLDER/core; - is stdout, for one core")
	cmd.Flags().BoolVarP(&job.all, "all", "a", false, "dump all mappings; whatever coredump_filter and MADV_DONTDUMP say")
	addMethod(cmd, &job.method)
	cmd.Flags().Var(&job.maxPause, "max-pause", "refuse what is expected to hold the process for longer, such as 20ms; nothing is stopped then; it bounds an estimate, and what took longer all the same is told")
	cmd.Flags().Var(&job.compress, "compress", "compress the core, into PREFIX.PID.zst; every command reads it as it is")
	complete(cmd, "compress", "zstd")
	cmd.Flags().BoolVar(&job.force, "force", false, "replace an existing file")
	cmd.Flags().BoolVar(&job.stacks, "stacks", false, "print what every thread was doing, from the core, as procmem stacks does")
	return cmd
}

// run takes the cores one after the other. A core that fails does not prevent the others.
func (j *coreJob) run(ctx context.Context, words []string) error {
	if j.prefix == "" {
		return usagef("the output prefix is empty")
	}
	if err := checkURL(j.prefix); err != nil {
		return err
	}
	words, err := splitTargets(words)
	if err != nil {
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
	if j.stacks && !j.isFile() {
		return usagef("--stacks reads the core when it has been written, which has to be a file on this machine")
	}
	j.tellPackedName()
	status := exitDone
	for i, w := range words {
		s := exitStatus(j.one(ctx, w))
		if status == exitDone || s == exitFailed || s > bySignal {
			status = s
		}
		if ctx.Err() != nil {
			if i < len(words)-1 { // the last core may have been finished in time
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

// inFolder returns a prefix for cores in what names a folder or a bucket.
func inFolder(prefix string) string {
	switch {
	case upload.IsURL(prefix):
		if strings.Count(prefix, "/") == 2 {
			return prefix + "/core"
		}
		if strings.HasSuffix(prefix, "/") {
			return prefix + "core"
		}
		return prefix
	case strings.HasSuffix(prefix, "/"):
		return prefix + "core"
	}
	if st, err := os.Stat(prefix); err == nil && st.IsDir() {
		return prefix + "/core"
	}
	return prefix
}

// one takes one core.
func (j *coreJob) one(ctx context.Context, word string) error {
	pid, err := processID(word)
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
	out := os.Stdout
	var r *capture.Result
	switch o := j.options(p); {
	case j.isFile():
		r, err = capture.ToFile(ctx, p, j.name(p), o)
		err = orElsewhere(j.name(p), j.otherPrefix(), unforced(noRoom(worded(err, p, notThisCore))))
	case j.prefix == "-":
		out = os.Stderr
		fallthrough
	default:
		r, err = j.stream(ctx, p, o)
	}
	hurry(false)
	j.progress.end()
	if err != nil {
		return err
	}
	err = j.tell(out, r)
	if j.isFile() && !j.gcore {
		tellOpen(j.name(p))
	}
	if j.stacks {
		err = cmp.Or(err, j.tellStacks(ctx, j.name(p)))
	}
	return err
}

// tellStacks prints the stacks of a core that has been written.
func (j *coreJob) tellStacks(ctx context.Context, name string) error {
	f, err := core.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return reportStacks(ctx, &globals{json: j.json}, &target.Target{Word: name, Core: f})
}

// options returns the options of package capture for the flags.
func (j *coreJob) options(p *process.Process) capture.Options {
	o := capture.Options{
		Method: snapshot.Method(j.method), MaxPause: time.Duration(j.maxPause), Replace: j.force,
		Spool: capture.SpoolIn(os.TempDir()), Creator: version, OnEvent: j.progress.event(p),
	}
	if j.all {
		all := core.FilterAll
		o.Filter = &all
	}
	if j.compress != "" {
		o.Compress = capture.Zstd
		o.OnEvent = hurried(o.OnEvent)
	}
	return o
}

// stream takes a core to stdout or an object store.
func (j *coreJob) stream(ctx context.Context, p *process.Process, o capture.Options) (*capture.Result, error) {
	began := time.Now()
	dest := &lateDestination{ctx: ctx, name: j.name(p), force: j.force}
	defer dest.abort()
	r, err := capture.ToWriter(ctx, p, dest, o)
	if err == nil {
		j.progress.enter("finishing")
		err = dest.commit()
	}
	if err != nil {
		return nil, streamError(worded(err, p, ""))
	}
	r.Path = dest.path
	r.TotalMS = milliseconds(time.Since(began))
	return r, nil
}

// name returns the name of the core of a process.
func (j *coreJob) name(p *process.Process) string {
	if j.prefix == "-" {
		return "-"
	}
	return j.prefix + "." + strconv.Itoa(p.PID()) + j.compress.suffix()
}

// otherPrefix returns a prefix in a folder that anybody can write to. To gcore, a folder is a prefix
// like any other.
func (j *coreJob) otherPrefix() string {
	if j.gcore {
		return "/tmp/core"
	}
	return "/tmp/"
}

// isFile reports whether the core becomes a file on this machine.
func (j *coreJob) isFile() bool { return j.prefix != "-" && !upload.IsURL(j.prefix) }

// wasHeld reports whether the process of a core was held, so that its registers are known.
func wasHeld(r *core.Report) bool { return r.Method != string(snapshot.MethodLive) }

// tell prints what was done, and on stderr what is missing.
func (j *coreJob) tell(w *os.File, res *capture.Result) error {
	r := res.Report
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
		term.Fprintf(w, "%s: process %d, %s of memory, %s, %s\n", where, r.PID, units.Size(r.MemoryBytes),
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
		term.Fprintf(w, "%s %s, file length %s; %s\n", units.Size(uint64(r.DiskBytes)), written, units.Size(uint64(r.FileBytes)), missingText(r))
		if warnsOldGDB(res.Image) {
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

// seeInfo says where the ranges are listed that are not of the moment.
func seeInfo(r *core.Report) string {
	if len(r.Torn) == 0 {
		return ""
	}
	return "; procmem info tells which"
}

// beyondBound says that the process was held for longer than --max-pause. bound is 0 for no
// bound. The bound is only compared with an estimate beforehand.
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
	return fmt.Sprintf("%s missing in %s", units.Size(n), count(len(r.Missing)+r.MissingMore, "range"))
}

func count(n int, what string) string { return units.Count(n, what) }
