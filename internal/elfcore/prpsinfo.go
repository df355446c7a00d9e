package elfcore

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/procmem/procmem"
)

// prpsinfo is the offsets of fields in struct elf_prpsinfo (include/linux/elfcore.h). On i386
// it is compat_elf_prpsinfo, whose user and group ids have 16 bits.
type prpsinfo struct {
	word int // size of flag
	flag int
	uid  int
	gid  int
	pid  int // i32 each: pid, ppid, pgrp, sid
	name int // 16 bytes, then the arguments
	size int
}

const (
	prpsNameLen = 16
	prpsArgsLen = 80
)

func prpsinfoOf(a procmem.Arch) prpsinfo {
	if a.WordSize() == 4 {
		return prpsinfo{word: 4, flag: 4, uid: 8, gid: 10, pid: 12, name: 28, size: 124}
	}
	return prpsinfo{word: 8, flag: 8, uid: 16, gid: 20, pid: 24, name: 40, size: 136}
}

// processStates are the letters of pr_sname, in the order of pr_state.
const processStates = "RSDTZW"

// EncodePRPSInfo returns the descriptor of the NT_PRPSINFO note.
func EncodePRPSInfo(a procmem.Arch, p *procmem.ProcessInfo) []byte {
	le := binary.LittleEndian
	l := prpsinfoOf(a)
	b := make([]byte, l.size)
	state := p.State
	switch state {
	case 0:
		state = 'R'
	case 't': // traced, for which this note has no letter
		state = 'T'
	}
	b[0], b[1] = byte(len(processStates)), '.'
	if i := strings.IndexByte(processStates, state); i >= 0 {
		b[0], b[1] = byte(i), state
	}
	if state == 'Z' {
		b[2] = 1
	}
	b[3] = byte(int8(p.Nice))
	if l.word == 4 {
		le.PutUint32(b[l.flag:], uint32(p.Flags))
		le.PutUint16(b[l.uid:], id16(p.UID))
		le.PutUint16(b[l.gid:], id16(p.GID))
	} else {
		le.PutUint64(b[l.flag:], p.Flags)
		le.PutUint32(b[l.uid:], p.UID)
		le.PutUint32(b[l.gid:], p.GID)
	}
	for i, v := range [4]int{p.PID, p.PPID, p.PGRP, p.SID} {
		le.PutUint32(b[l.pid+4*i:], uint32(int32(v)))
	}
	copy(b[l.name:l.name+prpsNameLen-1], p.Name)
	copy(b[l.name+prpsNameLen:l.size-1], p.Args)
	return b
}

// id16 returns the 16-bit form of a user or group id that the kernel shows
// (include/linux/highuid.h, high2lowuid with the default overflowuid).
func id16(id uint32) uint16 {
	if id > 0xffff {
		return 65534
	}
	return uint16(id)
}

// DecodePRPSInfo reads the descriptor of an NT_PRPSINFO note.
func DecodePRPSInfo(a procmem.Arch, b []byte) (procmem.ProcessInfo, error) {
	le := binary.LittleEndian
	l := prpsinfoOf(a)
	if len(b) != l.size {
		return procmem.ProcessInfo{}, fmt.Errorf("decode PRPSINFO: %d bytes, %v has %d", len(b), a, l.size)
	}
	id := func(i int) int { return int(int32(le.Uint32(b[l.pid+4*i:]))) }
	p := procmem.ProcessInfo{
		PID: id(0), PPID: id(1), PGRP: id(2), SID: id(3),
		State: b[1], Nice: int(int8(b[3])),
		Name: cString(b[l.name : l.name+prpsNameLen]),
		Args: strings.TrimRight(cString(b[l.name+prpsNameLen:]), " "),
	}
	if l.word == 4 {
		p.Flags = uint64(le.Uint32(b[l.flag:]))
		p.UID, p.GID = uint32(le.Uint16(b[l.uid:])), uint32(le.Uint16(b[l.gid:]))
	} else {
		p.Flags = le.Uint64(b[l.flag:])
		p.UID, p.GID = le.Uint32(b[l.uid:]), le.Uint32(b[l.gid:])
	}
	return p, nil
}
