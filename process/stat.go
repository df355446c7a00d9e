package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/procmem/procmem"
)

// userHZ is the unit of times in /proc/PID/stat, in ticks a second. USER_HZ is 100 on every
// architecture that procmem knows (include/asm-generic/param.h).
const userHZ = 100

// Stat is the part of /proc/PID/stat that procmem uses (proc(5), where fields are numbered from
// 1).
type Stat struct {
	PID  int
	Name string // comm, at most 15 bytes, or the name of a kernel thread
	// State is the letter that proc(5) lists, such as 'R', 'S', 'D', 'T' or 'Z'.
	State           byte
	PPID, PGRP, SID int
	Flags           uint64        // PF_*
	UserTime        time.Duration // of all threads in /proc/PID/stat
	SystemTime      time.Duration
	ChildUserTime   time.Duration
	ChildSystemTime time.Duration
	Nice            int
	StartTime       uint64 // clock ticks since boot; with the pid, the identity of a process
}

// KernelThread reports whether the process has no memory of its own (PF_KTHREAD).
func (s *Stat) KernelThread() bool { return s.Flags&0x00200000 != 0 }

// Forked reports whether the process is a fork that has executed no program since
// (PF_FORKNOEXEC).
func (s *Stat) Forked() bool { return s.Flags&0x40 != 0 }

// Exiting reports whether the thread is ending (PF_EXITING).
func (s *Stat) Exiting() bool { return s.Flags&0x4 != 0 }

// Zombie reports whether the process has exited.
func (s *Stat) Zombie() bool { return s.State == 'Z' || s.State == 'X' }

// ParseStat reads the text of /proc/PID/stat or task/TID/stat. It fails where a field that Stat
// has is missing or is no number.
func ParseStat(r io.Reader) (*Stat, error) {
	b, err := readSmall(r)
	if err != nil {
		return nil, fmt.Errorf("parse stat: %w", err)
	}
	// The name may contain anything, spaces and parentheses included.
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || shut < open {
		return nil, errors.New("parse stat: no name in parentheses")
	}
	s := &Stat{Name: string(b[open+1 : shut])}
	if s.PID, err = strconv.Atoi(string(bytes.TrimSpace(b[:open]))); err != nil {
		return nil, fmt.Errorf("parse stat: pid: %w", errors.Unwrap(err))
	}
	f := bytes.Fields(b[shut+1:]) // f[0] is field 3
	if len(f) < 20 || len(f[0]) != 1 {
		return nil, fmt.Errorf("parse stat: %d fields after the name: want 20 or more", len(f))
	}
	s.State = f[0][0]
	var errs []error
	num := func(field int) int64 {
		v, err := strconv.ParseInt(string(f[field-3]), 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("parse stat: field %d: %w", field, errors.Unwrap(err)))
		}
		return v
	}
	ticks := func(field int) time.Duration {
		v := num(field)
		if v < 0 || v > int64(1<<63-1)/int64(time.Second/userHZ) {
			v = 0
		}
		return time.Duration(v) * (time.Second / userHZ)
	}
	s.PPID, s.PGRP, s.SID = int(num(4)), int(num(5)), int(num(6))
	s.Flags = uint64(num(9))
	s.UserTime, s.SystemTime = ticks(14), ticks(15)
	s.ChildUserTime, s.ChildSystemTime = ticks(16), ticks(17)
	s.Nice = int(num(19))
	s.StartTime = uint64(num(22))
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return s, nil
}

// Status is the part of /proc/PID/status that procmem uses (proc(5)). Fields that the kernel
// does not print keep their zero value.
type Status struct {
	Name       string
	State      byte // as in Stat
	TGID       int
	PPID       int
	TracerPID  int
	UID, GID   [4]uint32 // real, effective, saved, file system
	NSPID      []int     // ids of this process in each pid namespace, the innermost last
	NSTGID     []int
	Threads    int
	SigPending uint64 // of the thread (SigPnd)
	SigBlocked uint64 // SigBlk; in both, bit i is signal i+1
	CapEff     uint64
	CapPerm    uint64 // CapPrm
	Seccomp    int    // 0 none, 1 strict, 2 filter
	NoNewPrivs bool
	RSS, Swap  uint64 // bytes
	HasMemory  bool   // VmSize was printed; it is not for kernel threads and zombies
}

// InnerPID returns the id in the innermost pid namespace, or 0 where the kernel does not tell.
func (s *Status) InnerPID() int {
	if n := len(s.NSPID); n > 0 {
		return s.NSPID[n-1]
	}
	return 0
}

// ParseStatus reads the text of /proc/PID/status or task/TID/status. It fails where there is no
// State, or a field that Status has is malformed.
func ParseStatus(r io.Reader) (*Status, error) {
	s := &Status{}
	seen := false
	err := eachLine(r, "status", func(line []byte) error {
		name, val, ok := strings.Cut(string(line), ":")
		if !ok {
			return nil
		}
		val = strings.TrimSpace(val)
		var err error
		switch name {
		case "Name":
			s.Name = val
		case "State":
			if val == "" {
				return errors.New("no state")
			}
			s.State = val[0]
			seen = true
		case "Tgid":
			s.TGID, err = strconv.Atoi(val)
		case "PPid":
			s.PPID, err = strconv.Atoi(val)
		case "TracerPid":
			s.TracerPID, err = strconv.Atoi(val)
		case "Threads":
			s.Threads, err = strconv.Atoi(val)
		case "Uid":
			err = parseIDs(val, &s.UID)
		case "Gid":
			err = parseIDs(val, &s.GID)
		case "NSpid":
			s.NSPID, err = parseInts(val)
		case "NStgid":
			s.NSTGID, err = parseInts(val)
		case "SigPnd":
			s.SigPending, err = strconv.ParseUint(val, 16, 64)
		case "SigBlk":
			s.SigBlocked, err = strconv.ParseUint(val, 16, 64)
		case "CapEff":
			s.CapEff, err = strconv.ParseUint(val, 16, 64)
		case "CapPrm":
			s.CapPerm, err = strconv.ParseUint(val, 16, 64)
		case "Seccomp":
			s.Seccomp, err = strconv.Atoi(val)
		case "NoNewPrivs":
			s.NoNewPrivs = val == "1"
		case "VmSize":
			s.HasMemory = true
		case "VmRSS":
			err = parseKB([]byte(val), &s.RSS)
		case "VmSwap":
			err = parseKB([]byte(val), &s.Swap)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !seen {
		return nil, errors.New("parse status: no State line")
	}
	return s, nil
}

func parseIDs(val string, ids *[4]uint32) error {
	f := strings.Fields(val)
	if len(f) != 4 {
		return fmt.Errorf("%q: want four ids", val)
	}
	for i := range f {
		v, err := strconv.ParseUint(f[i], 10, 32)
		if err != nil {
			return err
		}
		ids[i] = uint32(v)
	}
	return nil
}

func parseInts(val string) ([]int, error) {
	var out []int
	for w := range strings.FieldsSeq(val) {
		v, err := strconv.Atoi(w)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// ParseAuxv returns an auxiliary vector up to and with AT_NULL, in the words of the
// architecture. It fails where there is no AT_NULL.
func ParseAuxv(b []byte, arch procmem.Arch) ([]byte, error) {
	if auxv, complete := arch.TrimAuxv(b); complete {
		return auxv, nil
	}
	return nil, fmt.Errorf("parse auxv: no AT_NULL in %d bytes", len(b))
}

// Syscall is what /proc/PID/task/TID/syscall tells of a blocked thread (fs/proc/base.c,
// proc_pid_syscall).
type Syscall struct {
	Running bool // the thread is on a processor, and all else is unknown
	Number  int  // -1 for a thread that is blocked outside a system call
	Args    [6]uint64
	SP, PC  procmem.Addr
}

// ParseSyscall reads the text of /proc/PID/task/TID/syscall. It fails where the text has
// another form.
func ParseSyscall(r io.Reader) (*Syscall, error) {
	b, err := readSmall(r)
	if err != nil {
		return nil, fmt.Errorf("parse syscall: %w", err)
	}
	f := strings.Fields(string(b))
	if len(f) == 1 && f[0] == "running" {
		return &Syscall{Running: true}, nil
	}
	if len(f) != 3 && len(f) != 9 {
		return nil, fmt.Errorf("parse syscall: %d words: want 1, 3 or 9", len(f))
	}
	s := &Syscall{}
	if s.Number, err = strconv.Atoi(f[0]); err != nil {
		return nil, fmt.Errorf("parse syscall: number: %w", errors.Unwrap(err))
	}
	words := make([]uint64, len(f)-1)
	for i, w := range f[1:] {
		if words[i], err = strconv.ParseUint(strings.TrimPrefix(w, "0x"), 16, 64); err != nil {
			return nil, fmt.Errorf("parse syscall: word %d: %w", i+1, errors.Unwrap(err))
		}
	}
	copy(s.Args[:], words[:len(words)-2])
	s.SP, s.PC = procmem.Addr(words[len(words)-2]), procmem.Addr(words[len(words)-1])
	return s, nil
}

// readSmall reads a file of one line. It fails where there are more than 64 KiB.
func readSmall(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxLine+1))
	if err == nil && len(b) > maxLine {
		err = errors.New("too long")
	}
	return b, err
}
