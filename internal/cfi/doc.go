// Package cfi finds out how a program returns: from the call frame information of compilers
// (.eh_frame, .debug_frame) to the rules by which the registers of a caller are computed.
//
// Start with Header, for a table with .eh_frame_hdr, or Section, for one without. Table.Find
// returns the Row of an address. Eval computes the expressions in it. Formats are those of
// DWARF 5, section 6.4, and of the Linux Standard Base, "Exception Frames".
//
// Tables may be hostile. They give an error and never a panic. All work is taken from a
// Budget, so its end is known beforehand.
package cfi

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Reasons why there is no Row.
var (
	// ErrNone reports that no entry of the table holds the address.
	ErrNone = errors.New("no call frame information")
	// ErrBudget reports that the tables cost more work than they may.
	ErrBudget = errors.New("the call frame information takes more work than it may")
	// ErrFormat reports a table that makes no sense.
	ErrFormat = errors.New("the call frame information makes no sense")
)

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
}

// Source has the bytes of a table by address.
type Source interface {
	// ReadAt fills p from the address, or fails.
	ReadAt(p []byte, addr uint64) error
}

// Budget is the work that tables may still cost: instructions, operations and entries. It is
// safe for concurrent use.
type Budget struct {
	left   atomic.Int64
	parent *Budget // pays too; nil for none
}

// NewBudget returns one of n units. A unit takes some 10 ns.
func NewBudget(n int64) *Budget {
	b := new(Budget)
	b.left.Store(n)
	return b
}

// Part returns a budget of n units that are taken from b, too.
func (b *Budget) Part(n int64) *Budget {
	part := NewBudget(n)
	part.parent = b
	return part
}

// Spend takes n units. It fails with ErrBudget if there are none left.
func (b *Budget) Spend(n int) error {
	for ; b != nil; b = b.parent {
		if b.left.Add(-int64(n)) < 0 {
			return ErrBudget
		}
	}
	return nil
}

// Registers is how many registers have rules, by their DWARF numbers: all general purpose ones
// of amd64, i386 and arm64. Rules of others are passed over.
const Registers = 40

// Kind says how a value is computed.
type Kind uint8

// The kinds of rules. In a Row the zero Kind does not occur.
const (
	Unspecified Kind = iota
	Undefined        // there is no value
	Same             // the value has not changed
	Offset           // the word at CFA+Off
	ValOffset        // CFA+Off
	Register         // the value of register Reg, plus Off
	Expr             // the word at the address that Code computes
	ValExpr          // what Code computes
)

// Rule is how one value is computed.
type Rule struct {
	Kind Kind
	Reg  uint8 // below Registers
	Off  int64
	Code []byte
}

// Row has the rules for one address.
type Row struct {
	CFA    Rule // a Register or a ValExpr
	Rules  []RegRule
	RA     uint8 // the register that has the return address
	Signal bool  // the frame is one that the kernel made for a handler
}

// RegRule is the rule of one register.
type RegRule struct {
	Rule
	Num uint8 // below Registers
}

// Size returns the bytes of memory that a row takes.
func (r *Row) Size() int {
	const rule = 56
	n := 2*rule + len(r.CFA.Code)
	for i := range r.Rules {
		n += rule + len(r.Rules[i].Code)
	}
	return n
}
