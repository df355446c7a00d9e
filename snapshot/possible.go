package snapshot

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/inject"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
	"golang.org/x/sys/unix"
)

// canClone returns why no thread of a process can be given a child, as far as that is known
// without stopping it.
func canClone(p *process.Process) (err error) {
	tids, err := p.Threads()
	if err != nil {
		return err
	}
	for _, tid := range tids[:min(len(tids), inject.MaxCandidates)] {
		if err = p.CheckChildNamespaces(tid); err == nil {
			return nil
		}
	}
	return err
}

// canCall returns why no system call can be run in a process, as far as that is known without
// stopping it.
func canCall(p *process.Process, arch procmem.Arch) error {
	if arch != inject.Arch {
		return fmt.Errorf("it takes a system call in the target, which is not done for %v", arch)
	}
	if st, err := p.Status(); err == nil && st.Seccomp != 0 && !capable(unix.CAP_SYS_ADMIN) {
		return inject.ErrSeccomp
	}
	if group := p.Frozen(); group != "" {
		return fmt.Errorf("%w (%s)", inject.ErrFrozen, group)
	}
	return nil
}

// capable reports whether this process has a capability.
func capable(c int) bool {
	pid, err := process.Self()
	if err != nil {
		return false
	}
	self, err := process.Open(pid)
	if err != nil {
		return false
	}
	defer self.Close()
	st, err := self.Status()
	return err == nil && (st.CapEff|privilege.Held())&(1<<c) != 0
}

// canTrack returns why writes cannot be tracked by a userfaultfd. It makes one of its own, once.
// Where it may not, the target may: then PAGEMAP_SCAN decides, which most kernels got at the same
// time.
var canTrack = sync.OnceValue(func() error {
	fd, err := sys.Userfaultfd()
	if err == nil {
		defer unix.Close(fd)
		err = sys.UffdTrackWrites(fd)
	} else {
		err = canScan()
	}
	if err != nil {
		return errors.New("the kernel has no asynchronous write protection (userfaultfd; Linux 6.7 has it, and 6.10 on arm64)")
	}
	return nil
})

// canScan returns why the kernel has no PAGEMAP_SCAN.
func canScan() error {
	self, err := process.Open(os.Getpid())
	if err != nil {
		return err
	}
	defer self.Close()
	f, err := self.Open("pagemap")
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = sys.PagemapQuery(f.Fd(), sys.Scan{Any: sys.PagePresent, Return: sys.PagePresent}, make([]sys.PageRegion, 1))
	return err
}
