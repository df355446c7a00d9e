package glimpse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
)

// errExec reports that the process has executed another program meanwhile.
var errExec = errors.New("it has executed another program")

// maxTries bounds how often a glimpse is begun again.
const maxTries = 4

// Take holds the process, copies, and lets it go on. It fails with procmem.ErrGone if the
// process has ended, with the cause of ctx if that ends, and with EPERM if something else
// traces it. Threads that cannot be stopped are no failure: their Err is set.
func (t *Taker) Take(ctx context.Context) (*Glimpse, error) {
	for try := 1; ; try++ {
		g, err := t.once(ctx)
		gone := errors.Is(err, unix.ESRCH) // the first thread vanishes while another one executes a program
		if err == nil || try == maxTries || !gone && !errors.Is(err, errExec) {
			if gone {
				err = fmt.Errorf("%w: %w", procmem.ErrGone, err)
			}
			return g, err
		}
		if err := t.open(); err != nil {
			return nil, err
		}
	}
}

func (t *Taker) once(ctx context.Context) (*Glimpse, error) {
	info, err := t.p.Info()
	if err != nil {
		return nil, err
	}
	infos, err := t.threads()
	if err != nil {
		return nil, err
	}
	if err := t.follow(); err != nil {
		return nil, err
	}
	h := &hold{Taker: t, infos: infos}
	h.prepare()
	if err := h.run(ctx); err != nil {
		return nil, err
	}
	if err := t.follow(); err != nil {
		return nil, err
	}
	img := t.img
	img.Process, img.Mappings, img.Threads = info, t.maps, h.threads
	t.kept.seal(t.view, t.maps)
	return &Glimpse{
		Image: &img, Memory: &t.kept, Taken: h.taken, Pause: h.tracer.Pause(), Quiet: max(h.tracer.QuietPause(), h.tracer.Pause()),
		Copied: t.kept.used,
	}, nil
}

// hold is one pause.
type hold struct {
	*Taker
	infos   map[int]procmem.Thread
	tracer  *ptracer.Tracer
	threads []procmem.Thread // the leader first
	taken   time.Time
	left    int // threads whose stacks have yet to be copied, about
}

// prepare makes what need not be made in the pause.
func (h *hold) prepare() {
	h.left = len(h.infos)
	h.kept.begin(min(h.o.Total, uint64(len(h.infos))*usualStack))
	h.threads = make([]procmem.Thread, 0, len(h.infos)+16)
	known := make(map[int]bool, len(h.infos))
	for tid := range h.infos {
		known[tid] = true
	}
	h.tracer = ptracer.New(h.p)
	h.tracer.Known, h.tracer.General, h.tracer.OnQuiet = known, true, h.copyStacks
}

// run holds the process for as long as copying takes. One thread does all of it, because
// handing over takes time on a busy machine.
func (h *hold) run(ctx context.Context) (err error) {
	stop := context.AfterFunc(ctx, h.tracer.Release)
	defer stop()
	h.tracer.Do(func() {
		err = h.inPause(ctx)
		h.tracer.LetAllGo()
	})
	h.tracer.Release()
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

func (h *hold) inPause(ctx context.Context) error {
	if err := h.tracer.StopAll(ctx); err != nil {
		return err
	}
	if err := h.tracer.MapsAreFree(); err != nil {
		return err
	}
	h.taken = time.Now()
	if !h.sameProgram() {
		return errExec
	}
	taken := h.tracer.Take(h.img.Arch)
	h.copyStacks(h.withoutStack(taken))
	for i := range taken {
		h.addThread(&taken[i])
	}
	if h.o.Also != nil {
		h.o.Also(&Held{hold: h, until: time.Now().Add(h.o.AlsoTime)})
	}
	return nil
}

// withoutStack returns the threads whose stacks have not been copied with those of quiet ones.
func (h *hold) withoutStack(all []ptracer.Taken) (out []ptracer.Taken) {
	for _, th := range all {
		if !h.kept.done[th.TID] {
			out = append(out, th)
		}
	}
	return out
}

// addThread completes what the tracer took with what was known of the thread before.
func (h *hold) addThread(th *ptracer.Taken) {
	t, ok := h.infos[th.TID]
	if !ok {
		t.TID = th.TID
	}
	if th.Info != nil {
		t = *th.Info
	}
	t.Regsets = th.Regsets
	if th.Reason != nil {
		t.Err = th.Reason
	}
	h.threads = append(h.threads, t)
	if k := len(h.threads) - 1; th.TID == h.p.PID() && k > 0 {
		copy(h.threads[1:], h.threads[:k])
		h.threads[0] = t
	}
}
