package inject

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/dirty"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/selfexec"
	"github.com/procmem/procmem/process"
)

// Job is what a helper is asked to do. Start sets PID and Start.
type Job struct {
	PID   int
	Start uint64       // start time of the process in clock ticks since boot, its identity
	Task  string       // TaskFork, TaskTrack or TaskReap
	Wait  bool         // TaskFork: the target is held until GoOn
	Known map[int]bool // TaskFork: ids of threads that have been looked at
	Reap  []Forked     // TaskReap: tasks in the target that have ended
}

// The tasks of a helper.
const (
	TaskFork  = "fork"
	TaskTrack = "track"
	TaskReap  = "reap"
)

// News is one answer of a helper. A helper sends one or more.
type News struct {
	// Failure says why the helper has ended its task. All else but Pause is then zero.
	Failure *failure

	Started bool          // nothing has been done yet
	Born    *Forked       // a task was made in the target; more news follow
	Held    bool          // the target is being held
	Child   Forked        // the copy of the target
	Late    bool          // the target was let go before the word came
	Time    time.Time     // when all threads had stopped
	Pause   time.Duration // for which they were held
	Threads []ptracer.Taken
	Unheld  []string // processes that share the target's memory and went on meanwhile

	Descriptor bool     // a userfaultfd comes with this
	Left       *failure // what could not be undone
	Undone     bool     // this is the last news
}

// ErrStays reports that the target cannot be put in order now, such as a frozen one. The helper
// waits for that, and then finishes. Until then no other tracer can trace what the helper
// holds.
var ErrStays = errors.New("a process of procmem (core-helper) waits for it, and then finishes")

// failure is an error that can be sent from one process to the other, which runs the same
// program. It has the error's text, and the known errors that errors.Is finds in it.
type failure struct {
	Text  string
	Errno syscall.Errno
	Is    uint32 // bit i: travels[i] is in it
}

// travels are the errors that keep their identity between the processes.
var travels = [...]error{procmem.ErrGone, ErrExec, ErrSignalled, ErrStays, ErrFrozen,
	errNoVDSO, errOwnVDSO, ErrSeccomp, errDispatch, errShadow, errCodeMode, errNoUffd}

// Never reports whether an error says that no system call will ever be run in the process, or
// that the kernel gives it no userfaultfd.
func Never(err error) bool {
	return slices.ContainsFunc(travels[5:], func(e error) bool { return errors.Is(err, e) })
}

func newFailure(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	for i, known := range travels {
		if errors.Is(err, known) {
			f.Is |= 1 << i
		}
	}
	errors.As(err, &f.Errno)
	return f
}

// received returns the error that has arrived, or nil for none.
func (f *failure) received() error {
	if f == nil {
		return nil
	}
	e := &remoteError{text: f.Text}
	for i, known := range travels {
		if f.Is&(1<<i) != 0 {
			e.is = append(e.is, known)
		}
	}
	if f.Errno != 0 {
		e.is = append(e.is, f.Errno)
	}
	return e
}

// remoteError is an error of the other process.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

// Helper is the connection to a helper process. It is not safe for concurrent use, but for
// Leave.
type Helper struct {
	cmd  *exec.Cmd
	conn *net.UnixConn
	enc  *gob.Encoder
	dec  *gob.Decoder
	fds  []int // that came with what was read

	p      *process.Process
	born   []Forked // tasks in the target that the helper ends and reaps
	stuck  bool     // the helper waits for the target, for as long as that takes
	closed bool
	left   error // what could not be undone
	pause  time.Duration
}

// Start starts a helper for a process and sends it a job. It fails if /proc is not that of this
// pid namespace, or no process can be started. Close must be called.
func Start(p *process.Process, j Job) (*Helper, error) {
	if err := p.CheckNamespace(); err != nil {
		return nil, fmt.Errorf("stop process %d: %w", p.PID(), err)
	}
	j.PID, j.Start = p.PID(), p.StartTime()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start helper: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	k := &Helper{p: p}
	if k.conn, err = unixConn(pair[0]); err != nil {
		return nil, fmt.Errorf("start helper: %w", err)
	}
	k.enc, k.dec = gob.NewEncoder(k.conn), gob.NewDecoder(k)
	k.cmd = selfexec.Command(helperName, strconv.Itoa(j.PID))
	k.cmd.Env, k.cmd.Dir, k.cmd.ExtraFiles = []string{}, "/", []*os.File{theirs}
	if err := k.cmd.Start(); err != nil {
		k.conn.Close()
		return nil, fmt.Errorf("start helper: %w", err)
	}
	if err := k.enc.Encode(&j); err != nil {
		_ = k.Close()
		return nil, fmt.Errorf("start helper: %w", err)
	}
	return k, nil
}

func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// Read reads what the helper sends, and takes file descriptors that come with it. It is for the
// decoder of News.
func (k *Helper) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := k.conn.ReadMsgUnix(p, oob)
	if oobn > 0 {
		if msgs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(msgs) == 1 {
			if fds, err := unix.ParseUnixRights(&msgs[0]); err == nil {
				for _, fd := range fds {
					unix.CloseOnExec(fd)
				}
				k.fds = append(k.fds, fds...)
			}
		}
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err // -1 with an error
}

// Listen returns the next news that needs the caller. It fails with the helper's failure, with
// the cause of ctx, and if the helper ends. The end of ctx tells the helper to undo everything.
func (k *Helper) Listen(ctx context.Context) (*News, error) {
	stop := context.AfterFunc(ctx, k.Leave)
	defer stop()
	for {
		n := new(News)
		err := k.dec.Decode(n)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, fmt.Errorf("helper: %w", err)
		case n.Failure != nil:
			err := n.Failure.received()
			k.stuck, k.pause = errors.Is(err, ErrStays), k.pause+n.Pause
			return nil, err
		case n.Born != nil:
			k.born = append(k.born, *n.Born)
		case n.Started:
		default:
			return n, nil
		}
	}
}

// Userfaultfd returns a userfaultfd of the target (TaskTrack), and the time for which the
// target was held. Close closes the descriptor.
func (k *Helper) Userfaultfd(ctx context.Context) (fd int, pause time.Duration, err error) {
	n, err := k.Listen(ctx)
	if err != nil {
		return -1, k.pause, err
	}
	if len(k.fds) != 1 {
		return -1, n.Pause, errors.New("helper: no userfaultfd came; there may be as many files open as there may be (RLIMIT_NOFILE)")
	}
	return k.fds[0], n.Pause, nil
}

// GoOn lets a target go on that is held for it (Job.Wait).
func (k *Helper) GoOn() error { return k.enc.Encode(true) }

// Leave has the helper begin to undo everything.
func (k *Helper) Leave() { k.conn.CloseWrite() }

// Pause returns for how long the target was held by a task that failed, and for the undoing.
func (k *Helper) Pause() time.Duration { return k.pause }

// Close has the helper undo everything, and waits until it has. It returns what could not be
// undone. It may be called again, and then returns the same.
func (k *Helper) Close() error {
	if k.closed {
		return k.left
	}
	k.closed = true
	k.Leave()
	undone := k.stuck || k.awaitUndone()
	if !undone {
		// The helper was killed, and its tasks in the target with it.
		k.undo()
	}
	k.conn.Close()
	for _, fd := range k.fds {
		unix.Close(fd)
	}
	if !k.stuck {
		k.cmd.Wait()
	}
	return k.left
}

// awaitUndone reads the last news, and reports whether all is undone.
func (k *Helper) awaitUndone() (undone bool) {
	for {
		n := new(News)
		if k.dec.Decode(n) != nil {
			return undone
		}
		k.pause += n.Pause
		undone = undone || n.Undone
		if n.Born != nil {
			k.born = append(k.born, *n.Born)
		}
		if n.Left != nil {
			k.left = n.Left.received()
		}
		if err := n.Failure.received(); errors.Is(err, ErrStays) {
			k.stuck, k.left = true, err
			return true
		}
	}
}

// undo does what a killed helper has not done.
func (k *Helper) undo() {
	for _, fd := range k.fds {
		dirty.Untrack(k.p, fd)
	}
	if len(k.born) == 0 {
		return
	}
	if another, err := Start(k.p, Job{Task: TaskReap, Reap: k.born}); err == nil {
		k.left = another.Close()
	}
}
