package inject

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/selfexec"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// helperName is the name of a helper in selfexec.
const helperName = "core-helper"

// helperSocket is the file descriptor of its connection.
const helperSocket = 3

func init() { selfexec.Register(helperName, serve) }

// helper is the state of a helper process.
type helper struct {
	p     *process.Process
	out   *output
	enc   *gob.Encoder
	ctx   context.Context // done when procmem has left
	word  chan bool       // receives the word to go on
	known map[int]bool
	left  []Forked      // tasks that are still to be reaped
	pause time.Duration // for which the target was held
}

// output is the helper's side of the connection.
type output struct {
	conn   *net.UnixConn
	rights []byte // control message with file descriptors, sent with the next bytes
}

func (o *output) Write(p []byte) (int, error) {
	done := 0
	rights := o.rights
	o.rights = nil
	for ; done < len(p) || len(rights) > 0; rights = nil {
		n, _, err := o.conn.WriteMsgUnix(p[done:], rights, nil) // may write a part
		if done += n; err != nil {
			// Nothing more can be sent, and the other end must not wait for it.
			o.conn.CloseWrite()
			return done, err
		}
	}
	return done, nil
}

// serve is the main function of a helper.
func serve() int {
	privilege.Hide() // it keeps all capabilities, because it opens no file that the user names
	stockUp()
	conn, err := unixConn(helperSocket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "a helper is started by another program:", err)
		return 2
	}
	out := &output{conn: conn}
	h := &helper{out: out, enc: gob.NewEncoder(out), word: make(chan bool, 1)}
	dec := gob.NewDecoder(conn)
	var j Job
	if err := dec.Decode(&j); err != nil {
		return 1
	}
	// The first News takes long, because the encoder has to learn and send its type. The target
	// is held when the next are sent.
	if h.tell(&News{Started: true}) != nil {
		return 1
	}
	// A kernel that is short of memory then ends another process than the one that has to
	// finish this. Without the right, the write fails.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	ctx, cancel := context.WithCancelCause(context.Background())
	h.ctx = ctx
	go func() {
		var b bool
		for dec.Decode(&b) == nil {
			h.word <- b
		}
		cancel(errors.New("nobody waits for it any more"))
	}()
	if err := h.do(j); err != nil {
		if h.tell(&News{Failure: newFailure(err), Pause: h.pause}) == nil {
			<-ctx.Done()
			h.undone(nil, 0)
		}
		return 1
	}
	return 0
}

// What stockUp gets: more threads than a helper has running or waiting at a time, and more
// memory than it uses.
const (
	stockThreads = 12
	stockBytes   = 8 << 20
)

// stockUp gets what the runtime may want in the middle of the work, before anything is done to
// the target. A runtime that is refused a thread or memory ends its process. A helper must not
// end while a thread has registers that are not its own.
func stockUp() {
	release := make(chan struct{})
	var locked, ended sync.WaitGroup
	for range stockThreads {
		locked.Add(1)
		ended.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			locked.Done()
			<-release
		})
	}
	locked.Wait()
	close(release) // the runtime keeps idle threads, and takes them before it makes new ones
	ended.Wait()
	runtime.KeepAlive(make([]byte, stockBytes))
	runtime.GC() // which gives the block to later allocations
	// A helper needs little memory. The garbage collector could be scheduled between two steps
	// that should be close to each other.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(64 << 20)
}

// tell sends news to the other end.
func (h *helper) tell(n *News) error { return h.enc.Encode(n) }

func (h *helper) do(j Job) (err error) {
	h.p, err = process.Open(j.PID)
	if errors.Is(err, process.ErrNoProcess) {
		err = fmt.Errorf("open process %d: %w", j.PID, procmem.ErrGone)
	}
	if err != nil {
		return err
	}
	defer h.p.Close()
	if h.p.StartTime() != j.Start {
		return fmt.Errorf("open process %d: %w", j.PID, procmem.ErrGone)
	}
	h.known = j.Known
	switch j.Task {
	case TaskFork:
		return h.fork(j.Wait)
	case TaskTrack:
		if err := h.track(); err != nil {
			return err
		}
		h.undone(nil, 0)
		return nil
	case TaskReap:
		h.left = j.Reap
		h.undone(h.reapLeft(), 0)
		return nil
	}
	return fmt.Errorf("unknown task %q", j.Task)
}

// tracer returns a tracer of the target.
func (h *helper) tracer() *ptracer.Tracer { return ptracer.New(h.p) }

// injector returns an Injector that tells the other end if a thread does not come back from its
// call.
func (h *helper) injector(t *ptracer.Tracer) (*Injector, error) {
	c, err := New(h.p, t)
	if err == nil {
		c.late = h.stuck
	}
	return c, err
}

// stuck tells the other end not to wait any longer, because what is left to do waits for the
// target.
func (h *helper) stuck(why error) {
	_ = h.tell(&News{Failure: newFailure(fmt.Errorf("process %d: %w: %w", h.p.PID(), why, ErrStays))})
}

// thawed waits until no control group has the target frozen. The other end need not wait.
func (h *helper) thawed() {
	for told := false; ; sys.Nap(5 * time.Millisecond) {
		group := h.p.Frozen()
		if group == "" {
			return
		}
		if !told {
			h.stuck(fmt.Errorf("%w (%s)", ErrFrozen, group))
			told = true
		}
	}
}

// undone tells the other end that all is undone, or what is not, and for how long the target
// was held for that.
func (h *helper) undone(err error, pause time.Duration) {
	_ = h.tell(&News{Undone: true, Pause: pause, Left: newFailure(err)})
}
