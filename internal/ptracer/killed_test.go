package ptracer

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
)

// A process that is killed while it is held is gone for the next hold by the same tracer.
// Threads whose exit nobody takes would be zombies that no hold can stop.
func TestKilledWhileHeld(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	p.Cmd(t, "threads 5")
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	tr := New(proc)
	defer tr.Release()
	if err := tr.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	p.WaitState(t, 'Z')
	tr.LetGo()
	if err := tr.Stop(t.Context()); !errors.Is(err, procmem.ErrGone) {
		t.Errorf("a second hold: %v", err)
	}
}

// What fails for each of thousands of threads costs no more than what fails for three.
func TestPersistenceHasABound(t *testing.T) {
	tries, asked := persistenceForAll, 0
	for range 1000 {
		err := persist(unix.Getpid(), "RS", &tries, func() error {
			asked++
			return unix.EIO
		})
		if !errors.Is(err, unix.EIO) {
			t.Fatal(err)
		}
	}
	if want := persistenceForAll + 1000; asked != want {
		t.Errorf("asked %d times, want %d", asked, want)
	}
}

// What failed while threads were stopped leaves all attempts for letting them go: the signals
// that they were about to take depend on it.
func TestLetGoHasAttemptsOfItsOwn(t *testing.T) {
	p := testproc.Start(t, testproc.Kids)
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	tr := New(proc)
	defer tr.Release()
	if err := tr.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr.Do(func() { tr.tries = 0 })
	tr.LetGo()
	var left int
	tr.Do(func() { left = tr.tries })
	if left != persistenceForAll {
		t.Errorf("%d attempts, want %d", left, persistenceForAll)
	}
}
