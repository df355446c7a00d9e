package snapshot

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/process"
)

// A keeper is a process of its own that does what would harm the target if it
// were left half done: it runs system calls in threads of the target, and
// undoes what they did. It is this program, run again, in a session of its
// own and deaf to signals that end programs. When the one who started it
// vanishes, by whatever signal, the connection between them ends, and the
// keeper finishes: the target has its registers back, and nothing is left in
// it. The keeper itself can be killed; then there is a time, from some
// microseconds to that of a fork, in which that would harm the target.

// keeperName is what a keeper is called, by which it knows that it is one. It
// does not contain the name of the program, so that who ends all processes of
// that name lets keepers finish.
const keeperName = "core-keeper"

// keeperSocket is the file descriptor of its connection.
const keeperSocket = 3

func init() {
	if len(os.Args) == 2 && os.Args[0] == keeperName {
		os.Exit(keep())
	}
}

// job is what a keeper is asked to do.
type job struct {
	PID   int
	Start uint64       // of the process, its identity
	Task  string       // taskFork, taskTrack or taskReap
	Wait  bool         // taskFork: the target is held until the word to go on
	Known map[int]bool // threads that have been looked at
	Child forked       // taskReap: the copy, which has ended
}

// The tasks of a keeper.
const (
	taskFork  = "fork"
	taskTrack = "track"
	taskReap  = "reap"
)

// news is what a keeper answers, one or more of them.
type news struct {
	Failure *failure

	Held    bool          // the target is being held
	Child   forked        // the copy of the target
	Late    bool          // the target was let go before the word came
	Time    time.Time     // when all threads had stopped
	Pause   time.Duration // for which they were held
	Threads []taken

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
	f := &failure{Text: err.Error(), Gone: errors.Is(err, procmem.ErrGone), Exec: errors.Is(err, errExec), Early: errors.Is(err, errSignalled)}
	errors.As(err, &f.Errno)
	return f
}

func (f *failure) Error() string { return f.Text }

// Is lets errors.Is find the reason.
func (f *failure) Is(target error) bool {
	return f.Gone && target == procmem.ErrGone || f.Exec && target == errExec || f.Early && target == errSignalled || f.Errno != 0 && f.Errno.Is(target) || target == error(f.Errno)
}

// keeper is the connection to one.
type keeper struct {
	cmd  *exec.Cmd
	conn *net.UnixConn
	enc  *gob.Encoder
	dec  *gob.Decoder
	fds  []int // that came with what was read

	p      *process.Process
	copy   *forked // that the keeper has made, nil for none
	closed bool
	left   error         // what could not be undone
	pause  time.Duration // for which the target was held for the undoing
}

// startKeeper starts a keeper and tells it what to do.
func startKeeper(p *process.Process, j job) (*keeper, error) {
	j.PID, j.Start = p.PID(), p.StartTime()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	k := &keeper{p: p}
	if k.conn, err = unixConn(pair[0]); err != nil {
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	k.enc, k.dec = gob.NewEncoder(k.conn), gob.NewDecoder(k)
	k.cmd = &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{keeperName, strconv.Itoa(j.PID)},
		Env:         []string{},
		Dir:         "/",
		ExtraFiles:  []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := k.cmd.Start(); err != nil {
		k.conn.Close()
		return nil, fmt.Errorf("start keeper: %w", err)
	}
	if err := k.enc.Encode(&j); err != nil {
		k.close()
		return nil, fmt.Errorf("start keeper: %w", err)
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

// Read reads what the keeper says, and takes file descriptors that come with
// it.
func (k *keeper) Read(p []byte) (int, error) {
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

// listen waits for news. When ctx ends, the keeper is told to undo everything.
func (k *keeper) listen(ctx context.Context) (*news, error) {
	stop := context.AfterFunc(ctx, k.leave)
	defer stop()
	n := new(news)
	err := k.dec.Decode(n)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("keeper: %w", err)
	case n.Failure != nil:
		return nil, n.Failure
	}
	return n, nil
}

// goOn is the word that a target that is held for it may go on.
func (k *keeper) goOn() error { return k.enc.Encode(true) }

// leave has the keeper begin to undo everything.
func (k *keeper) leave() { k.conn.CloseWrite() }

// close has the keeper undo everything and waits until it has. It returns
// what could not be undone. It may be called again, and then returns the same.
func (k *keeper) close() error {
	if k.closed {
		return k.left
	}
	k.closed = true
	k.leave()
	undone := false
	for {
		n := new(news)
		if k.dec.Decode(n) != nil {
			break
		}
		k.pause += n.Pause
		undone = undone || n.Undone
		if n.Left != "" {
			k.left = errors.New(n.Left)
		}
	}
	k.conn.Close()
	for _, fd := range k.fds {
		unix.Close(fd)
	}
	k.cmd.Wait()
	if k.copy != nil && !undone {
		// It was killed, and the copy with it: that is still to be reaped.
		if another, err := startKeeper(k.p, job{Task: taskReap, Child: *k.copy}); err == nil {
			k.left = another.close()
		}
	}
	return k.left
}

// keeping is the other end: what a keeper knows.
type keeping struct {
	p     *process.Process
	out   *output
	enc   *gob.Encoder
	ctx   context.Context // ends when the other end is gone
	word  chan bool       // to go on
	known map[int]bool
}

// output is where a keeper writes to.
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

// keep is the main function of a keeper.
func keep() int {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE,
		syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTSTP, syscall.SIGXFSZ)
	// Its name would be that of the link that it was run by.
	os.WriteFile("/proc/self/comm", []byte(keeperName), 0)
	privilege.Hide() // it keeps all capabilities: it opens nothing that the user names
	conn, err := unixConn(keeperSocket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "a keeper is started by another program:", err)
		return 2
	}
	out := &output{conn: conn}
	k := &keeping{out: out, enc: gob.NewEncoder(out), word: make(chan bool, 1)}
	dec := gob.NewDecoder(conn)
	var j job
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
		k.enc.Encode(&news{Failure: newFailure(err)})
		<-ctx.Done()
		return 1
	}
	return 0
}

func (k *keeping) do(j job) (err error) {
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
	case taskFork:
		return k.fork(j.Wait)
	case taskTrack:
		return k.track()
	case taskReap:
		k.undone(j.Child.reap(k.p), 0)
		return nil
	}
	return fmt.Errorf("unknown task %q", j.Task)
}

// undone tells the other end that all is undone, or what is not, and for how
// long the target was held for that.
func (k *keeping) undone(err error, pause time.Duration) {
	n := news{Undone: true, Pause: pause}
	if err != nil {
		n.Left = err.Error()
	}
	k.enc.Encode(&n)
}
