//go:build !amd64 && !arm64

package inject

import (
	"errors"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/ptracer"
	"github.com/procmem/procmem/internal/sys"
)

// Arch is no architecture: this program runs no system calls in targets.
const Arch procmem.Arch = 255

const (
	callInstruction = "-"
	callAlign       = 1
	noStack         = 0
)

type threadState struct {
	native, blocked bool
	pc              uint64
}

func (c *Injector) state([]byte) threadState { return threadState{} }

func callRegs(regs []byte, pc, number uint64, args ...uint64) []byte { return regs }

var noticesStop map[int]bool

func getRegs(int) ([]byte, error) { return nil, errors.ErrUnsupported }
func setRegs(int, []byte) error   { return errors.ErrUnsupported }

func strayRegs(regs []byte) []byte { return regs }

func noCall(regs []byte) []byte { return regs }

func shadowed(*ptracer.Tracer, int) bool { return false }

type turn struct{}

func (c *Injector) turn(int, []byte) turn               { return turn{} }
func (turn) begin(int, []byte) error                    { return errors.ErrUnsupported }
func (turn) enter(int, []byte, uint64) error            { return errors.ErrUnsupported }
func (turn) reported(*sys.SyscallInfo, sys.SyscallInfo) {}
func (turn) left(regs []byte) []byte                    { return regs }
func (turn) settle(*Injector, int) error                { return nil }

const callAudit = 0

const callClone, callWait4, callUserfaultfd, callClose, callCloseRange, callExitGroup = 0, 0, 0, 0, 0, 0
