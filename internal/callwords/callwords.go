// Package callwords puts system calls into words: futex(FUTEX_WAIT, 0x7f12).
//
// Start with Of. Only arguments that tell what a thread waits for are in words: descriptors,
// addresses that it waits at, times, ids. Nothing is read: what an address holds may have
// changed.
package callwords

import (
	"fmt"
	"strings"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/callnames"
)

// Call is a system call that a thread is in.
type Call struct {
	Number int
	Args   [6]uint64
}

// nameOf returns the name of a system call, or a text with its number where it is not known.
func nameOf(arch procmem.Arch, number int) string {
	if name := callnames.Of(arch, number); name != "" {
		return name
	}
	return fmt.Sprintf("system call %d", number)
}

// Of returns a call with its arguments. file tells what a descriptor is, or "" where that is not
// known; it may be nil.
func Of(arch procmem.Arch, c Call, file func(fd int) string) string {
	name := nameOf(arch, c.Number)
	w := words{args: c.Args[:], file: file}
	if arch.WordSize() == 4 {
		for i, a := range w.args {
			w.args[i] = uint64(uint32(a))
		}
	}
	// Newer calls of 32 bits have times of 64 bits.
	for kind := range strings.FieldsSeq(kinds[strings.TrimSuffix(name, "_time64")]) {
		w.add(kind)
	}
	if len(w.out) == 0 {
		return name
	}
	return name + "(" + strings.Join(w.out, ", ") + ")"
}

// words collects the arguments of a call. Each kind takes one.
type words struct {
	args []uint64
	file func(fd int) string
	out  []string
}

func (w *words) add(kind string) {
	if len(w.args) == 0 {
		return
	}
	a := w.args[0]
	w.args = w.args[1:]
	text := ""
	switch kind {
	case "-": // of no interest
	case "fd":
		text = w.descriptor(int(int32(a)))
	case "addr":
		text = procmem.Addr(a).String()
	case "int":
		text = fmt.Sprint(int32(a))
	case "ms":
		if n := int32(a); n >= 0 {
			text = (time.Duration(n) * time.Millisecond).String()
		}
	case "fds":
		if text = fmt.Sprint(uint32(a), " descriptors"); uint32(a) == 1 {
			text = "1 descriptor"
		}
	case "futex":
		text = constant(futexes, a&^futexFlags, "operation")
		w.out = append([]string{text}, w.out...) // before the address
		return
	case "clock":
		text = constant(clocks, uint64(uint32(a)), "clock")
	case "request":
		text = fmt.Sprintf("%#x", uint32(a))
	case "fcntl":
		text = constant(fcntls, uint64(uint32(a)), "command")
	}
	if text != "" {
		w.out = append(w.out, text)
	}
}

func (w *words) descriptor(fd int) string {
	text := fmt.Sprint(fd)
	if fd == atCurrent {
		return "AT_FDCWD"
	}
	if w.file == nil || fd < 0 {
		return text
	}
	if name := w.file(fd); name != "" {
		text += " → " + name
	}
	return text
}

const atCurrent = -100 // AT_FDCWD

// constant returns the name of a value, or what it is and its number.
func constant(names map[uint64]string, v uint64, what string) string {
	if name := names[v]; name != "" {
		return name
	}
	return fmt.Sprint(what, " ", v)
}

// Interruptible reports whether a call fails with EINTR if its thread is stopped in it. Others go
// on.
func Interruptible(arch procmem.Arch, c Call) bool {
	return interruptible[strings.TrimSuffix(callnames.Of(arch, c.Number), "_time64")]
}
