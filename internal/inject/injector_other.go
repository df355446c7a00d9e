//go:build !amd64

package inject

import (
	"errors"

	"github.com/procmem/procmem"
)

// Arch is no architecture: this program runs no system calls in targets.
const Arch procmem.Arch = 255

const callInstruction = "-"

type threadState struct {
	native, blocked bool
	pc              uint64
}

func callState([]byte) threadState { return threadState{} }

func callRegs(regs []byte, pc, number uint64, args ...uint64) []byte { return regs }

var noticesStop map[int]bool

func getRegs(int) ([]byte, error) { return nil, errors.ErrUnsupported }
func setRegs(int, []byte) error   { return errors.ErrUnsupported }

func strayRegs(regs []byte) []byte { return regs }

func noCall(regs []byte) []byte { return regs }

const callAudit = 0

const callClone, callWait4, callUserfaultfd, callClose, callCloseRange, callExitGroup = 0, 0, 0, 0, 0, 0
