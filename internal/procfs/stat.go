package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// userHZ is the unit of times in /proc/PID/stat, in ticks a second. USER_HZ is 100 on every
// architecture that procmem knows (include/asm-generic/param.h).
const userHZ = 100

// Stat is process.Stat, whose methods are there.
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

// ParseStat reads the text of /proc/PID/stat or task/TID/stat. It fails where a field that Stat
// has is missing or is no number.
func ParseStat(r io.Reader) (*Stat, error) {
	b, err := ReadSmall(r)
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

// ParseRuns reads the text of /proc/PID/task/TID/schedstat
// (Documentation/scheduler/sched-stats.rst). It returns how often the thread has been given a
// processor. It fails if there are not three numbers.
func ParseRuns(r io.Reader) (uint64, error) {
	b, err := ReadSmall(r)
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b)
	if len(fields) < 3 {
		return 0, fmt.Errorf("%q: want three numbers", b)
	}
	return parseUint(fields[2], 10, 64)
}
