package testproc

import (
	"testing"
	"time"
)

// Counts are the signals that the program signals has handled.
type Counts struct {
	USR1     int64
	RT       [8]int64
	Spurious int64
}

// ReadCounts asks for them.
func (p *Proc) ReadCounts(t testing.TB) (c Counts) {
	t.Helper()
	n := p.CmdInts(t, "counts")
	c.USR1, c.Spurious = n[0], n[len(n)-1]
	copy(c.RT[:], n[1:9])
	return c
}

// WantCounts waits until the signals have been handled, and for any that come twice a little
// longer.
func (p *Proc) WantCounts(t testing.TB, want Counts) {
	t.Helper()
	var got Counts
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got = p.ReadCounts(t); got == want {
			break
		}
	}
	p.Cmd(t, "ping")
	if got = p.ReadCounts(t); got != want {
		t.Fatalf("signals: %+v; want %+v", got, want)
	}
}
