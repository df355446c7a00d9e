package elfcore

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/procmem/procmem"
)

// prstatus is the offsets of fields in struct elf_prstatus (include/linux/elfcore.h, and
// compat_elf_prstatus for i386). All of them follow from the sizes of a word and of the general
// purpose registers.
type prstatus struct {
	word    int
	sigpend int // u32 or u64
	sighold int
	pid     int // i32 each: pid, ppid, pgrp, sid
	times   int // user, system, child user, child system: {seconds, microseconds} as words
	reg     int
	regEnd  int // also the offset of fpvalid
	size    int
}

func prstatusOf(a procmem.Arch) prstatus {
	w := a.WordSize()
	l := prstatus{word: w, sigpend: 16, sighold: 16 + w, pid: 16 + 2*w}
	l.times = l.pid + 16
	l.reg = l.times + 8*w
	l.regEnd = l.reg + a.GPRSize()
	l.size = (l.regEnd + 4 + w - 1) &^ (w - 1)
	return l
}

func (l *prstatus) putWord(b []byte, at int, v uint64) {
	if l.word == 4 {
		binary.LittleEndian.PutUint32(b[at:], uint32(v))
		return
	}
	binary.LittleEndian.PutUint64(b[at:], v)
}

func (l *prstatus) getWord(b []byte, at int) uint64 {
	if l.word == 4 {
		return uint64(binary.LittleEndian.Uint32(b[at:]))
	}
	return binary.LittleEndian.Uint64(b[at:])
}

// EncodePRStatus returns the descriptor of the thread's NT_PRSTATUS note. Unknown registers are
// zeros.
func EncodePRStatus(a procmem.Arch, t *procmem.Thread) []byte {
	le := binary.LittleEndian
	l := prstatusOf(a)
	b := make([]byte, l.size)
	le.PutUint32(b[0:], uint32(int32(t.Signal))) // pr_info.si_signo
	le.PutUint16(b[12:], uint16(int16(t.Signal)))
	l.putWord(b, l.sigpend, t.Pending)
	l.putWord(b, l.sighold, t.Blocked)
	for i, v := range [4]int{t.TID, t.PPID, t.PGRP, t.SID} {
		le.PutUint32(b[l.pid+4*i:], uint32(int32(v)))
	}
	for i, d := range [4]time.Duration{t.UserTime, t.SystemTime, t.ChildUserTime, t.ChildSystemTime} {
		at := l.times + 2*l.word*i
		l.putWord(b, at, uint64(d/time.Second))
		l.putWord(b, at+l.word, uint64(d%time.Second/time.Microsecond))
	}
	copy(b[l.reg:l.regEnd], t.Regset(procmem.NTPRStatus))
	if len(t.Regset(procmem.NTFPRegset)) > 0 {
		le.PutUint32(b[l.regEnd:], 1)
	}
	return b
}

// DecodePRStatus reads the descriptor of an NT_PRSTATUS note. If its size is not the
// architecture's, the result is a thread with Err set, so that it keeps its place in the list.
func DecodePRStatus(a procmem.Arch, b []byte) procmem.Thread {
	le := binary.LittleEndian
	l := prstatusOf(a)
	if len(b) != l.size {
		return procmem.Thread{Err: fmt.Errorf("decode PRSTATUS: %d bytes, %v has %d", len(b), a, l.size)}
	}
	id := func(i int) int { return int(int32(le.Uint32(b[l.pid+4*i:]))) }
	since := func(i int) time.Duration {
		at := l.times + 2*l.word*i
		return time.Duration(l.getWord(b, at))*time.Second + time.Duration(l.getWord(b, at+l.word))*time.Microsecond
	}
	return procmem.Thread{
		TID: id(0), PPID: id(1), PGRP: id(2), SID: id(3),
		Signal:  int(int16(le.Uint16(b[12:]))),
		Pending: l.getWord(b, l.sigpend), Blocked: l.getWord(b, l.sighold),
		UserTime: since(0), SystemTime: since(1), ChildUserTime: since(2), ChildSystemTime: since(3),
		Regsets: []procmem.Regset{{Type: procmem.NTPRStatus, Data: b[l.reg:l.regEnd:l.regEnd]}},
	}
}
