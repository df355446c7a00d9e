// Package epilogue finds out how a function returns by following its instructions up to the
// return, for code of amd64 and i386 that has no call frame information.
//
// Start with Follow. It carries out what moves the stack pointer and what restores registers,
// and passes over all else. Calls are taken to return, unless padding follows. One that does not
// return may lead astray, into the next function, so that what is found must be checked. Code is
// not trusted: the work is bounded.
package epilogue

import (
	"errors"

	"golang.org/x/arch/x86/x86asm"
)

// Code returns up to size bytes of code at an address. They are fewer where code ends.
type Code func(addr uint64, size int) []byte

// Return is how a function returns.
type Return struct {
	At   int64 // where the return address is, from the stack pointer, in bytes
	Drop int64 // what the return takes off the stack behind the return address, in bytes
	// Restored are the registers that the caller gets back from the stack.
	Restored []Restored
	// Lost has a bit for each register, by its number, that has another value by then.
	Lost uint16
}

// Restored is a register that has its value on the stack.
type Restored struct {
	Num int   // 0 to 15, as instructions number them
	At  int64 // from the stack pointer, in bytes
}

// Start is where a function goes on.
type Start struct {
	PC     uint64
	Called bool // PC is behind a call
	// FP is the frame pointer less the stack pointer, in bytes, if FPKnown is set.
	FP      int64
	FPKnown bool
}

const (
	maxPaths  = 64  // that have yet to be followed
	maxSize   = 15  // bytes of an instruction
	chunkSize = 256 // bytes of code that are fetched at once
)

// Numbers of registers.
const regSP, regBP = 4, 5

// path is a state of the machine: what is known of registers at one instruction.
type path struct {
	pc     uint64
	called bool  // the instruction before was a call
	sp     int64 // from the first stack pointer
	// fp is the frame pointer, likewise, while fpKnown is set.
	fp      int64
	fpKnown bool
	saved   [16]int64 // where registers have been restored from
	has     uint16    // a bit for each that has
	lost    uint16    // a bit for each that has another value than the caller's
}

// follower follows paths.
type follower struct {
	code  Code
	word  int64
	seen  map[uint64]bool
	todo  []path
	chunk []byte // code at base
	base  uint64
}

// Follow finds the return of the function that goes on at s. mode is 64 or 32. It gives up when
// more returns false, which it asks before each instruction.
func Follow(code Code, s Start, mode int, more func() bool) (Return, bool) {
	f := follower{code: code, word: int64(mode / 8), seen: make(map[uint64]bool),
		todo: []path{{pc: s.PC, called: s.Called, fp: s.FP, fpKnown: s.FPKnown}}}
	for len(f.todo) > 0 && more() {
		p := &f.todo[len(f.todo)-1]
		if f.seen[p.pc] {
			f.drop()
			continue
		}
		f.seen[p.pc] = true
		in, err := decode(f.fetch(p.pc), mode)
		if err != nil || p.called && in.Op == x86asm.NOP {
			f.drop()
			continue
		}
		p.pc += uint64(in.Len)
		p.called = in.Op == x86asm.CALL
		if in.Op == x86asm.RET {
			// The stack is aligned to 16 bytes at each call.
			return p.returns(in), !s.Called || (p.sp+f.word)%16 == 0
		}
		if !f.step(p, in) {
			f.drop()
		}
	}
	return Return{}, false
}

var errCode = errors.New("no instruction")

// decode decodes an instruction. The decoder panics where one with AVX is cut off.
func decode(b []byte, mode int) (in x86asm.Inst, err error) {
	defer func() {
		if recover() != nil {
			err = errCode
		}
	}()
	return x86asm.Decode(b, mode)
}

func (f *follower) drop() { f.todo = f.todo[:len(f.todo)-1] }

// fetch returns the code at an address.
func (f *follower) fetch(pc uint64) []byte {
	if pc < f.base || pc-f.base+maxSize > uint64(len(f.chunk)) {
		f.base, f.chunk = pc, f.code(pc, chunkSize)
	}
	return f.chunk[min(pc-f.base, uint64(len(f.chunk))):]
}

func (p *path) returns(in x86asm.Inst) Return {
	r := Return{At: p.sp, Lost: p.lost &^ p.has}
	if n, ok := in.Args[0].(x86asm.Imm); ok {
		r.Drop = int64(n)
	}
	for num := range p.saved {
		if p.has&(1<<num) != 0 {
			r.Restored = append(r.Restored, Restored{num, p.saved[num]})
		}
	}
	return r
}

// step carries out an instruction. It returns false where the path ends.
func (f *follower) step(p *path, in x86asm.Inst) bool {
	switch in.Op {
	case x86asm.JMP:
		to, ok := in.Args[0].(x86asm.Rel)
		p.pc += uint64(int64(to))
		return ok
	case x86asm.HLT, x86asm.INT, x86asm.UD1, x86asm.UD2, x86asm.IRET, x86asm.LRET:
		return in.Op == x86asm.INT && in.Args[0] != x86asm.Imm(3)
	case x86asm.CALL, x86asm.CMP, x86asm.TEST, x86asm.NOP:
		return true
	case x86asm.PUSH:
		p.sp -= f.word
		return true
	case x86asm.POP:
		p.restore(in.Args[0], p.sp)
		p.sp += f.word
		return !isReg(in.Args[0], regSP)
	case x86asm.LEAVE:
		ok := p.fpKnown
		p.restore(x86asm.RBP, p.fp)
		p.sp = p.fp + f.word
		return ok
	}
	if to, ok := in.Args[0].(x86asm.Rel); ok { // a jump that may be taken
		if len(f.todo) < maxPaths {
			other := *p
			other.pc += uint64(int64(to))
			// The fall-through is followed first: p must stay the last.
			f.todo = append(f.todo, f.todo[len(f.todo)-1])
			f.todo[len(f.todo)-2] = other
		}
		return true
	}
	return p.moves(in)
}

// moves carries out an instruction that may write to a register.
func (p *path) moves(in x86asm.Inst) bool {
	num := number(in.Args[0])
	if num == regSP {
		return p.moveSP(in)
	}
	if num < 0 {
		return true
	}
	if m, ok := in.Args[1].(x86asm.Mem); ok && in.Op == x86asm.MOV && m.Index == 0 {
		switch base := number(m.Base); {
		case base == regSP:
			p.restore(in.Args[0], p.sp+m.Disp)
			return true
		case base == regBP && p.fpKnown:
			p.restore(in.Args[0], p.fp+m.Disp)
			return true
		}
	}
	switch {
	case in.Op == x86asm.MOV && num == regBP && isReg(in.Args[1], regSP):
		p.fp, p.fpKnown = p.sp, true
	case num == regBP:
		p.fpKnown = false
	}
	p.has &^= 1 << num
	p.lost |= 1 << num
	return true
}

// moveSP carries out an instruction that writes to the stack pointer.
func (p *path) moveSP(in x86asm.Inst) bool {
	n, imm := in.Args[1].(x86asm.Imm)
	m, mem := in.Args[1].(x86asm.Mem)
	switch {
	case in.Op == x86asm.ADD && imm:
		p.sp += int64(n)
	case in.Op == x86asm.SUB && imm:
		p.sp -= int64(n)
	case in.Op == x86asm.LEA && mem && m.Index == 0 && number(m.Base) == regSP:
		p.sp += m.Disp
	case in.Op == x86asm.LEA && mem && m.Index == 0 && number(m.Base) == regBP && p.fpKnown:
		p.sp = p.fp + m.Disp
	case in.Op == x86asm.MOV && isReg(in.Args[1], regBP) && p.fpKnown:
		p.sp = p.fp
	default:
		return false
	}
	return true
}

// restore notes where a register got its value from.
func (p *path) restore(arg x86asm.Arg, at int64) {
	num := number(arg)
	if num < 0 {
		return
	}
	if num == regBP {
		p.fpKnown = false
	}
	p.saved[num] = at
	p.has |= 1 << num
}

// number returns the number of a whole general register, -1 for all else.
func number(arg x86asm.Arg) int {
	reg, ok := arg.(x86asm.Reg)
	switch {
	case !ok:
		return -1
	case reg >= x86asm.RAX && reg <= x86asm.R15:
		return int(reg - x86asm.RAX)
	case reg >= x86asm.EAX && reg <= x86asm.R15L:
		return int(reg - x86asm.EAX)
	}
	return -1
}

func isReg(arg x86asm.Arg, num int) bool { return number(arg) == num }
