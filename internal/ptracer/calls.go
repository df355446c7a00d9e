package ptracer

import (
	"encoding/binary"
	"fmt"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/callnames"
	"github.com/procmem/procmem/process"
)

// callKind says what a system call writes to memory at an address that it is given.
type callKind int

const (
	plain   callKind = iota
	buffer           // args: address, size in bytes
	fixed            // args: address; the size is in the table
	vector           // args: address of iovecs, their number
	message          // args: address of a msghdr
	many             // args: address of mmsghdrs, their number
	control          // ioctl: the request contains the size
)

// call is one system call: its name, and what it writes.
type call struct {
	name string
	kind callKind
	a, b int    // indexes of arguments, from 0
	unit uint64 // bytes of each item that b counts; for fixed, of all
}

// maxTransfer is the most that one system call reads, in bytes (MAX_RW_COUNT).
const maxTransfer = 0x7ffff000

// maxVector is the number of ranges that one system call can name (UIO_MAXIOV).
const maxVector = 1024

// CallName returns the name of a system call, or a text with its number where it is not known.
func CallName(arch procmem.Arch, number int) string {
	if name := callnames.Of(arch, number); name != "" {
		return name
	}
	return fmt.Sprintf("system call %d", number)
}

// maxLooks bounds the number of ranges that are looked at for all calls together. A target may
// have thousands of threads, each in a call that names thousands of ranges.
const maxLooks = 1 << 16

// Writes returns the memory that system calls may write to while their threads are in the
// kernel. mem reads the memory of the process, which may contain anything, so the result may
// name what is not mapped. If there is too much to look at, the result is all memory.
func Writes(arch procmem.Arch, in []*process.Syscall, mem procmem.Memory) []procmem.Range {
	w := writes{arch: arch, mem: mem, left: maxLooks}
	for _, s := range in {
		if s != nil && !s.Running && s.Number >= 0 {
			w.call(s)
		}
	}
	if w.left < 0 {
		return []procmem.Range{{End: endOfMemory}}
	}
	return w.out
}

// endOfMemory is above all addresses that a process can write to.
const endOfMemory = 1 << 63

// writes collects ranges.
type writes struct {
	arch procmem.Arch
	mem  procmem.Memory
	left int // ranges that may still be looked at; negative: there were more
	out  []procmem.Range
}

func (w *writes) call(s *process.Syscall) {
	c := calls[w.arch][s.Number]
	at := s.Args[c.a]
	switch c.kind {
	case buffer:
		n := s.Args[c.b]
		if c.unit > 1 {
			n = min(n, maxTransfer/c.unit) * c.unit
		}
		w.add(at, n)
	case fixed:
		w.add(at, c.unit)
	case vector:
		w.vector(at, s.Args[c.b])
	case message:
		w.message(at)
	case many:
		w.many(at, s.Args[c.b])
	case control:
		// With _IOC_READ the kernel writes, and bits 16 to 29 are the size.
		if request := s.Args[1]; request>>30&2 != 0 {
			w.add(at, request>>16&0x3fff)
		}
	}
}

func (w *writes) add(at, n uint64) {
	w.left--
	if n = min(n, maxTransfer); w.left < 0 || at == 0 || n == 0 || at >= endOfMemory {
		return
	}
	w.out = append(w.out, procmem.Range{Start: procmem.Addr(at), End: procmem.Addr(min(at+n, endOfMemory))})
}

// words reads n words of the process.
func (w *writes) words(at, n uint64) (out []uint64) {
	size := uint64(w.arch.WordSize())
	b := make([]byte, n*size)
	read, _ := w.mem.ReadAt(b, procmem.Addr(at))
	for b = b[:read]; uint64(len(b)) >= size; b = b[size:] {
		if size == 4 {
			out = append(out, uint64(binary.LittleEndian.Uint32(b)))
		} else {
			out = append(out, binary.LittleEndian.Uint64(b))
		}
	}
	return out
}

// vector adds the ranges that iovecs name.
func (w *writes) vector(at, n uint64) {
	if w.left < 0 {
		return
	}
	iov := w.words(at, 2*min(n, maxVector))
	for ; len(iov) >= 2; iov = iov[2:] {
		w.add(iov[0], iov[1])
	}
}

// message adds a msghdr, whose end the kernel writes, and what it names: the name, the ranges,
// the control data.
func (w *writes) message(at uint64) {
	h := w.words(at, 7)
	w.add(at, 7*uint64(w.arch.WordSize()))
	if len(h) < 7 {
		return
	}
	w.add(h[0], h[1]&0xffffffff)
	w.vector(h[2], h[3])
	w.add(h[4], h[5])
}

// many adds mmsghdrs. Each is a msghdr and a length.
func (w *writes) many(at, n uint64) {
	size := 8 * uint64(w.arch.WordSize())
	for i := range min(n, maxVector) {
		if w.left < 0 {
			return
		}
		w.message(at + i*size)
	}
	w.add(at, min(n, maxVector)*size)
}
