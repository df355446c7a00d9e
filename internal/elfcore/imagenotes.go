package elfcore

import (
	"encoding/binary"
	"slices"

	"github.com/procmem/procmem"
)

// Register sets of arm64 that are not written whole (include/uapi/linux/elf.h).
const (
	ntARMSVE       = 0x405
	ntARMPACAKeys  = 0x407
	ntARMPACGKeys  = 0x408
	ntARMSSVE      = 0x40b
	ntARMZA        = 0x40c
	armVectorField = 16 // size of struct user_sve_header; its first u32 is the length in use
)

// StandardNotes returns the notes of a process in the order of the kernel (fs/binfmt_elf.c,
// fill_note_info). The notes of the first thread have the process's own notes among them. The
// other threads follow.
func StandardNotes(img *procmem.Image) []Note {
	var notes []Note
	threads := img.Threads
	if len(threads) == 0 { // readers want one, and the process's notes need a place
		threads = []procmem.Thread{{TID: img.Process.PID}}
	}
	for i := range threads {
		t := &threads[i]
		notes = append(notes, Note{OwnerCore, procmem.NTPRStatus, EncodePRStatus(img.Arch, t)})
		if i == 0 {
			notes = append(notes, Note{OwnerCore, NTPRPSInfo, EncodePRPSInfo(img.Arch, &img.Process)})
		}
		notes = append(notes, Note{OwnerCore, NTSigInfo, encodeSigInfo(t)})
		if i == 0 {
			if auxv, _ := img.Arch.TrimAuxv(img.Auxv); len(auxv) > 0 {
				notes = append(notes, Note{OwnerCore, NTAuxv, auxv})
			}
			notes = append(notes, Note{OwnerCore, NTFile, EncodeFiles(img.Arch, img.Mappings)})
		}
		notes = appendRegsets(notes, img.Arch, t)
	}
	if len(img.XSaveLayout) > 0 {
		notes = append(notes, Note{OwnerLinux, NTXSaveLayout, img.XSaveLayout})
	}
	return notes
}

// OwnNotes returns the notes of procmem that are known before the memory has been copied.
func OwnNotes(img *procmem.Image) []Note {
	return []Note{
		{OwnerProcmem, NTMaps, EncodeMaps(img.Mappings)},
		{OwnerProcmem, NTThreads, EncodeThreads(img.Threads)},
	}
}

// encodeSigInfo returns an NT_SIGINFO descriptor: a siginfo_t that says what stopped the
// thread. For a process that did not crash, that is the kernel with SIGSTOP. Without it, old
// lldb shows "signal 0". The real siginfo of a seized thread is a SIGTRAP that no process sent.
func encodeSigInfo(t *procmem.Thread) []byte {
	const sigStop, siKernel = 19, 0x80
	signo := t.Signal
	if signo == 0 {
		signo = sigStop
	}
	b := make([]byte, 128)
	binary.LittleEndian.PutUint32(b[0:], uint32(signo))
	binary.LittleEndian.PutUint32(b[8:], siKernel) // after si_errno
	return b
}

// appendRegsets appends the register sets that are not inside PRSTATUS.
func appendRegsets(notes []Note, a procmem.Arch, t *procmem.Thread) []Note {
	sets := slices.Clone(t.Regsets)
	slices.SortStableFunc(sets, func(x, y procmem.Regset) int { return regsetRank(x.Type) - regsetRank(y.Type) })
	for _, s := range sets {
		data := regsetData(a, s)
		if s.Type == procmem.NTPRStatus || len(data) == 0 {
			continue
		}
		owner := OwnerLinux
		if s.Type == procmem.NTFPRegset {
			owner = OwnerCore
		}
		notes = append(notes, Note{owner, s.Type, data})
	}
	return notes
}

func regsetRank(typ uint32) int {
	switch typ {
	case procmem.NTFPRegset:
		return 0
	case procmem.NTPRXFPReg:
		return 1
	case procmem.NTX86XState:
		return 2
	}
	return 3
}

// regsetData returns the part of a register set that a core may hold, as the kernel dumps it.
// That is none of the secret keys of pointer authentication, and the part of the vector
// registers that is in use.
func regsetData(a procmem.Arch, s procmem.Regset) []byte {
	if a != procmem.ARM64 {
		return s.Data
	}
	switch s.Type {
	case ntARMPACAKeys, ntARMPACGKeys:
		return nil
	case ntARMSVE, ntARMSSVE, ntARMZA:
		if len(s.Data) < armVectorField {
			return nil
		}
		if used := int64(binary.LittleEndian.Uint32(s.Data)); used >= armVectorField && used < int64(len(s.Data)) {
			return s.Data[:used]
		}
	}
	return s.Data
}
