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
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/selfexec"
	"github.com/procmem/procmem/process"
)

// helperName is what a helper is called.
const helperName = "core-helper"

// helperSocket is the file descriptor of its connection.
const helperSocket = 3

func init() { selfexec.Register(helperName, run) }

// Job is what a helper is asked to do.
type Job struct {
	PID   int
	Start uint64       // of the process, its identity
	Task  string       // TaskFork, TaskTrack or TaskReap
	Wait  bool         // TaskFork: the target is held until the word to go on
	Known map[int]bool // threads that have been looked at
	Child Forked       // TaskReap: the copy, which has ended
}

// The tasks of a helper.
const (
	TaskFork  = "fork"
	TaskTrack = "track"
	TaskReap  = "reap"
)

// News is what a helper answers, one or more of them.
type News struct {
	Failure *failure

	Held    bool          // the target is being held
	Child   Forked        // the copy of the target
	Late    bool          // the target was let go before the word came
	Time    time.Time     // when all threads had stopped
	Pause   time.Duration // for which they were held
	Threads []ptracer.Taken

	Descriptor bool   // a userfaultfd comes with this
	Left       string // what could not be undone
	Undone     bool   // the last news
}

// failure is an error that can travel.
type failure struct {
	Text  string
	Errno syscall.Errno
	Gone  bool
	Exec  bool
	Early bool // a signal came first
}

func newFailure(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error(), Gone: errors.Is(err, procmem.ErrGone), Exec: errors.Is(err, ErrExec), Early: errors.Is(err, ErrSignalled)}
	errors.As(err, &f.Errno)
	return f
}

func (f *failure) Error() string { return f.Text }

// Is lets errors.Is find the reason.
func (f *failure) Is(target error) bool {
	return f.Gone && target == procmem.ErrGone || f.Exec && target == ErrExec || f.Early && target == ErrSignalled || f.Errno != 0 && f.Errno.Is(target) || target == error(f.Errno)
}

// Helper is the connection to one.
type Helper struct {
	cmd  *exec.Cmd
	conn *net.UnixConn
	enc  *gob.Encoder
	dec  *gob.Decoder
	FDs  []int // that came with what was read

	p      *process.Process
	Copy   *Forked // that the helper has made, nil for none
	closed bool
	left   error         // what could not be undone
	Pause  time.Duration // for which the target was held for the undoing
}

// Start starts a helper and tells it what to do.
func Start(p *process.Process, j Job) (*Helper, error) {
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
		k.Close()
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

// Read reads what the helper says, and takes file descriptors that come with
// it.
func (k *Helper) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := k.conn.ReadMsgUnix(p, oob)
	if oobn > 0 {
		if msgs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(msgs) == 1 {
			if fds, err := unix.ParseUnixRights(&msgs[0]); err == nil {
				for _, fd := range fds {
					unix.CloseOnExec(fd)
				}
				k.FDs = append(k.FDs, fds...)
			}
		}
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err // -1 with an error
}

// Listen waits for news. When ctx ends, the helper is told to undo everything.
func (k *Helper) Listen(ctx context.Context) (*News, error) {
	stop := context.AfterFunc(ctx, k.Leave)
	defer stop()
	n := new(News)
	err := k.dec.Decode(n)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("helper: %w", err)
	case n.Failure != nil:
		return nil, n.Failure
	}
	return n, nil
}

// GoOn is the word that a target that is held for it may go on.
func (k *Helper) GoOn() error { return k.enc.Encode(true) }

// Leave has the helper begin to undo everything.
func (k *Helper) Leave() { k.conn.CloseWrite() }

// Close has the helper undo everything and waits until it has. It returns
// what could not be undone. It may be called again, and then returns the same.
func (k *Helper) Close() error {
	if k.closed {
		return k.left
	}
	k.closed = true
	k.Leave()
	undone := false
	for {
		n := new(News)
		if k.dec.Decode(n) != nil {
			break
		}
		k.Pause += n.Pause
		undone = undone || n.Undone
		if n.Left != "" {
			k.left = errors.New(n.Left)
		}
	}
	k.conn.Close()
	for _, fd := range k.FDs {
		unix.Close(fd)
	}
	k.cmd.Wait()
	if k.Copy != nil && !undone {
		// It was killed, and the copy with it: that is still to be reaped.
		if another, err := Start(k.p, Job{Task: TaskReap, Child: *k.Copy}); err == nil {
			k.left = another.Close()
		}
	}
	return k.left
}

// helper is the other end: what the helper process knows.
type helper struct {
	p     *process.Process
	out   *output
	enc   *gob.Encoder
	ctx   context.Context // ends when the other end is gone
	word  chan bool       // to go on
	known map[int]bool
}

// output is where a helper writes to.
type output struct {
	conn   *net.UnixConn
	rights []byte // file descriptors that go with the next bytes
}

func (o *output) Write(p []byte) (int, error) {
	done := 0
	for rights := o.rights; done < len(p) || len(rights) > 0; rights = nil {
		n, _, err := o.conn.WriteMsgUnix(p[done:], rights, nil) // may write a part
		if done += n; err != nil {
			return done, err
		}
	}
	o.rights = nil
	return done, nil
}

// run is the main function of a helper.
func run() int {
	conn, err := unixConn(helperSocket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "a helper is started by another program:", err)
		return 2
	}
	out := &output{conn: conn}
	k := &helper{out: out, enc: gob.NewEncoder(out), word: make(chan bool, 1)}
	dec := gob.NewDecoder(conn)
	var j Job
	if err := dec.Decode(&j); err != nil {
		return 1
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	k.ctx = ctx
	go func() {
		var b bool
		for dec.Decode(&b) == nil {
			k.word <- b
		}
		cancel(errors.New("nobody waits for it any more"))
	}()
	if err := k.do(j); err != nil {
		k.enc.Encode(&News{Failure: newFailure(err)})
		<-ctx.Done()
		return 1
	}
	return 0
}

func (k *helper) do(j Job) (err error) {
	k.p, err = process.Open(j.PID)
	if errors.Is(err, process.ErrNoProcess) {
		err = fmt.Errorf("open process %d: %w", j.PID, procmem.ErrGone)
	}
	if err != nil {
		return err
	}
	defer k.p.Close()
	if k.p.StartTime() != j.Start {
		return fmt.Errorf("open process %d: %w", j.PID, procmem.ErrGone)
	}
	k.known = j.Known
	switch j.Task {
	case TaskFork:
		return k.fork(j.Wait)
	case TaskTrack:
		return k.track()
	case TaskReap:
		k.undone(j.Child.reap(k.p), 0)
		return nil
	}
	return fmt.Errorf("unknown task %q", j.Task)
}

// undone tells the other end that all is undone, or what is not, and for how
// long the target was held for that.
func (k *helper) undone(err error, pause time.Duration) {
	n := News{Undone: true, Pause: pause}
	if err != nil {
		n.Left = err.Error()
	}
	k.enc.Encode(&n)
}
