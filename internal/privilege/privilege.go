// Package privilege holds back the capabilities that the file of the program gives it beyond
// the rights of its user (setcap(8)). They are for reading processes. Everything else, above
// all opening files that the user names, is done with the user's own rights: otherwise every
// user could read every file.
//
// A program calls Lower when it starts, and reads a process inside Raised. Without such
// capabilities both do nothing.
//
// Capabilities belong to OS threads. A new thread has those of the thread that made it. The Go
// runtime never makes one from a thread to which a goroutine is locked. So what Raised raises
// reaches no other thread.
package privilege

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/sys"
)

// beyond is what has been lowered, as bits. It is written once, by Lower, before anything else
// is done.
var beyond uint64

// ErrSetuid reports that the file of the program is setuid.
var ErrSetuid = errors.New("it is setuid, and would open every file for every user: take that away (chmod u-s); file capabilities are held back where they must be (procmem doctor PID prints how to give it them)")

// Lower removes the capabilities that the user does not have from the effective sets of all
// threads; they stay permitted. It also keeps the process from leaving a core, which would hold
// what it has read of others. If it fails, the program must not go on.
func Lower() error {
	if os.Getuid() != os.Geteuid() {
		return ErrSetuid
	}
	c, err := get()
	if err != nil || os.Geteuid() == 0 {
		return nil // root has them as root
	}
	more := c.permitted &^ ambient(c.permitted)
	if more == 0 {
		return nil
	}
	Hide()
	c.effective &^= more
	if err := sys.CapsetAll(c.words()); err != nil {
		return fmt.Errorf("lower the capabilities of its file: %w", err)
	}
	beyond = more
	return nil
}

// Hide keeps a process that may have more rights than its user from leaving a core, and from
// being looked at. The kernel does that itself when execve(2) adds capabilities, but not when
// the program runs itself again.
func Hide() {
	if c, err := get(); err == nil && os.Geteuid() != 0 && c.permitted&^ambient(c.permitted) != 0 {
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
}

// Held returns the capabilities that Raised gives, one bit each.
func Held() uint64 { return beyond }

// Raised runs f with the capabilities of the file. f must stay on its goroutine, and must not
// open anything by a name that the user or the target chose.
func Raised(f func()) {
	if beyond == 0 {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := get()
	if err != nil || c.effective&beyond == beyond {
		f()
		return
	}
	was := c
	c.effective |= beyond
	if set(c) == nil {
		defer func() {
			if err := set(was); err != nil {
				panic(fmt.Sprintf("lower capabilities: %v", err)) // never go on with them
			}
		}()
	}
	f()
}

// RaiseThread is Raised for everything that the calling OS thread will ever do. The goroutine
// must be locked to the thread, and must never unlock it.
func RaiseThread() {
	if beyond == 0 {
		return
	}
	if c, err := get(); err == nil {
		c.effective |= beyond
		_ = set(c) // what needs them then fails, and says so
	}
}

// ambient returns which of the capabilities the user has without the file: execve(2) hands them
// down (capabilities(7)).
func ambient(of uint64) (out uint64) {
	for i := range uint64(64) {
		if of&(1<<i) == 0 {
			continue
		}
		if r, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, uintptr(i), 0, 0); err == nil && r == 1 {
			out |= 1 << i
		}
	}
	return out
}

// caps are the sets of a thread.
type caps struct{ effective, permitted, inheritable uint64 }

func header() *unix.CapUserHeader {
	return &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // pid 0 is the calling thread
}

func get() (c caps, err error) {
	var w [2]unix.CapUserData
	if err := unix.Capget(header(), &w[0]); err != nil {
		return c, err
	}
	join := func(low, high uint32) uint64 { return uint64(low) | uint64(high)<<32 }
	c.effective = join(w[0].Effective, w[1].Effective)
	c.permitted = join(w[0].Permitted, w[1].Permitted)
	c.inheritable = join(w[0].Inheritable, w[1].Inheritable)
	return c, nil
}

func (c caps) words() (*unix.CapUserHeader, *[2]unix.CapUserData) {
	w := &[2]unix.CapUserData{}
	for i := range w {
		shift := 32 * i
		w[i] = unix.CapUserData{Effective: uint32(c.effective >> shift), Permitted: uint32(c.permitted >> shift), Inheritable: uint32(c.inheritable >> shift)}
	}
	return header(), w
}

func set(c caps) error {
	hdr, w := c.words()
	return unix.Capset(hdr, &w[0])
}
