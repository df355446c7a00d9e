package snapshot

import (
	"os"

	"github.com/procmem/procmem"
	"golang.org/x/sys/unix"
)

// presentReader reads pages that exist, of a process that may run. It does not ask whether they
// exist. It reads /proc/PID/mem alone, because process_vm_readv(2) makes the process copy what
// it shares with its children (see process.View).
type presentReader struct {
	mem *os.File
}

// ReadAt and Mappings implement procmem.Memory.
func (r presentReader) ReadAt(p []byte, a procmem.Addr) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Pread(int(r.mem.Fd()), p[done:], int64(a)+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, &procmem.FaultError{Addr: a + procmem.Addr(done), Err: procmem.ErrUnreadable}
		case n == 0:
			return done, &procmem.FaultError{Addr: a + procmem.Addr(done), Err: procmem.ErrGone}
		}
		done += max(n, 0)
	}
	return done, nil
}

func (r presentReader) Mappings() ([]procmem.Mapping, error) { return nil, nil }

// dataSize returns how many bytes of r there are to copy.
func dataSize(mem procmem.Sparse, r procmem.Range) (n uint64) {
	for d, err := range mem.Data(r) {
		if err != nil {
			return n
		}
		n += d.Size()
	}
	return n
}
