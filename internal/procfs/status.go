package procfs

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Status is process.Status, whose methods are there.
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
