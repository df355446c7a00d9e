package inject

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// A thread that computes with long vectors, or in streaming mode, has all of them after a call.
func TestVectors(t *testing.T) {
	for _, mode := range []string{"0", "1"} {
		t.Run("streaming "+mode, func(t *testing.T) {
			p := testproc.Start(t, testproc.Kids)
			if _, err := p.TryCmd(t, "vectors %s", mode); err != nil {
				t.Skip(err)
			}
			proc := open(t, p)
			testproc.Until(t, "the thread to compute", func() bool {
				st, err := proc.Stat()
				return err == nil && st.State == 'R'
			})
			saved := 0
			for range 20 {
				calling(t, proc, func(c *Injector) {
					before := fmt.Sprint(c.t.TakeOne(p.PID(), Arch))
					saved += len(wideVectors(p.PID()))
					regs := regsOf(t, p.PID())
					if err := c.fit(p.PID(), regs); err != nil {
						t.Error(err)
					}
					if _, err := c.call(p.PID(), regs, callClose, ^uint64(0)); err != nil {
						t.Error(err)
					}
					if after := fmt.Sprint(c.t.TakeOne(p.PID(), Arch)); after != before {
						t.Errorf("the thread is\n%v\nand was\n%v", after, before)
					}
				})
			}
			tgkill(t, p.PID(), p.PID(), unix.SIGUSR1)
			var changed, size int
			line := p.Recv(t)
			if _, err := fmt.Sscanf(line, "done %d %d", &changed, &size); err != nil || changed != 0 || saved == 0 {
				t.Errorf("%q; want no change; %d sets of registers were saved", line, saved)
			}
			t.Logf("vectors of %d bytes", size)
		})
	}
}
