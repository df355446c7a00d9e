package procmem

import (
	"errors"
	"fmt"
	"iter"
)

// Memory is anything that can be read by address: a live process, one moment of it, a core
// file.
type Memory interface {
	// Mappings returns the mappings in ascending order of address. The caller must not change
	// the slice.
	Mappings() ([]Mapping, error)

	// ReadAt reads len(p) bytes that begin at addr. It reads up to the first byte that it
	// cannot. Then it returns the count and a *FaultError with the address of that byte and the
	// reason. n == len(p) if and only if err == nil. It is safe for concurrent use.
	ReadAt(p []byte, addr Addr) (n int, err error)
}

// Sparse is a Memory that knows, without reading, which parts of it can hold anything but
// zeros.
type Sparse interface {
	Memory

	// Data yields the ranges inside r that may hold data, ascending and disjoint. Outside of
	// them, what is mapped reads as zeros. An error ends the sequence.
	Data(r Range) iter.Seq2[Range, error]
}

// Resident is a Memory of a live process, parts of which may be swapped out.
type Resident interface {
	Memory

	// Resident yields the ranges inside r that may hold data and are in memory, ascending and
	// disjoint. They are those of Sparse.Data without what is swapped out. An error ends the
	// sequence.
	Resident(r Range) iter.Seq2[Range, error]
}

// Reasons for a fault; FaultError.Err is one of these or a syscall.Errno.
var (
	// ErrNotMapped reports that no mapping holds the address.
	ErrNotMapped = errors.New("not mapped")
	// ErrDevice reports a mapping of a device (io or pf in VmFlags). Reading it could have an
	// effect on the hardware, so it is never read.
	ErrDevice = errors.New("device memory is never read")
	// ErrNotDumped reports that the core file names the mapping and does not hold its bytes.
	ErrNotDumped = errors.New("not in the core file")
	// ErrUntouched reports a page that is not present. Only reading could tell what it holds,
	// and reading would allocate it.
	ErrUntouched = errors.New("not touched by the target, and reading would allocate it")
	// ErrGone reports that the process has exited, or has executed another program, since it
	// was opened.
	ErrGone = errors.New("the process is gone")
	// ErrUnreadable reports that the kernel refuses the page (EIO or EFAULT). It is a guard
	// page, memfd_secret, [vvar], beyond the end of the file, or a page that a userfaultfd
	// handler has yet to fill.
	ErrUnreadable = errors.New("mapped, but the kernel refuses to read it")
	// ErrTruncated reports that the core file ends before the bytes that it promises.
	ErrTruncated = errors.New("the core file is truncated here")
)

// FaultError reports an address that could not be read, and the reason.
type FaultError struct {
	Addr Addr
	Err  error
	// Until is where the fault ends, as far as that is known without trying. Each address from
	// Addr up to it fails for the same reason. 0 means unknown.
	Until Addr
}

func (e *FaultError) Error() string { return fmt.Sprintf("%v: %v", e.Addr, e.Err) }
func (e *FaultError) Unwrap() error { return e.Err }

// Fault is a range that could not be read, and the reason. A Fault is a FaultError whose end is
// known.
type Fault struct {
	Range
	Err error
}

// String returns the range and the reason.
func (f Fault) String() string { return fmt.Sprintf("%v: %v", f.Range, f.Err) }

// ReadFull reads r from m as far as possible. It calls sink with each piece
// that could be read, in ascending order, and returns what could not,
// neighbours with the same reason merged. After a fault it goes on at the
// next page, or where the fault is known to end.
//
// A byte lies in buf at its distance from the start of r, modulo len(buf). So no piece is
// longer than buf, and a buf as large as r holds all pieces in the end. An error is that of
// sink alone.
func ReadFull(m Memory, r Range, buf []byte, sink func(addr Addr, p []byte) error) ([]Fault, error) {
	var faults []Fault
	for a := r.Start; a < r.End; {
		at := uint64(a-r.Start) % uint64(len(buf))
		p := buf[at:min(uint64(len(buf)), at+uint64(r.End-a))]
		n, err := m.ReadAt(p, a)
		if n > 0 {
			if err := sink(a, p[:n]); err != nil {
				return faults, err
			}
			a += Addr(n)
		}
		if err == nil {
			continue
		}
		if errors.Is(err, ErrGone) {
			return AppendFault(faults, Fault{Range{a, r.End}, ErrGone}), nil
		}
		next := (a | (PageSize - 1)) + 1 // 0 behind the last page
		if f, ok := errors.AsType[*FaultError](err); ok {
			next = max(next, f.Until)
		}
		if next <= a || next > r.End {
			next = r.End
		}
		faults = AppendFault(faults, Fault{Range{a, next}, Cause(err)})
		a = next
	}
	return faults, nil
}

// Cause returns the reason in a FaultError, and any other error as it is.
func Cause(err error) error {
	if f, ok := errors.AsType[*FaultError](err); ok {
		return f.Err
	}
	return err
}

// AppendFault appends f, or makes the last fault longer if the two touch and have the same
// reason. Reasons are the same if they read the same: a list of faults is for people.
func AppendFault(faults []Fault, f Fault) []Fault {
	if k := len(faults); k > 0 && faults[k-1].End == f.Start && faults[k-1].Err.Error() == f.Err.Error() {
		faults[k-1].End = f.End
		return faults
	}
	return append(faults, f)
}
