package sys

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Register sets (include/uapi/linux/elf.h).
const (
	ntPRStatus      = 1
	ntARMSystemCall = 0x404
)

// Size of what GetRegs64 returns, in bytes: x0 to x30, sp, pc, pstate; and the call.
const (
	generalSize = 34 * 8
	regsSize    = generalSize + 8
)

// GetRegs64 reads the general purpose registers of a stopped thread, encoded like the
// NT_PRSTATUS register set. One word follows: the number of the system call that the thread is
// in, or -1.
func GetRegs64(tid int) ([]byte, error) {
	regs := make([]byte, regsSize)
	if n, err := GetRegset(tid, ntPRStatus, regs[:generalSize]); err != nil || n != generalSize {
		return nil, errnoOr(err, unix.EIO)
	}
	if _, err := GetRegset(tid, ntARMSystemCall, regs[generalSize:generalSize+4]); err != nil {
		return nil, err
	}
	number := int32(binary.LittleEndian.Uint32(regs[generalSize:]))
	binary.LittleEndian.PutUint64(regs[generalSize:], uint64(int64(number)))
	return regs, nil
}

// SetRegs64 writes what GetRegs64 has read.
func SetRegs64(tid int, regs []byte) error {
	if err := SetRegset(tid, ntPRStatus, regs[:generalSize]); err != nil {
		return err
	}
	return SetRegset(tid, ntARMSystemCall, regs[generalSize:generalSize+4])
}

func errnoOr(err error, otherwise unix.Errno) error {
	if err != nil {
		return err
	}
	return otherwise
}
