package cfi

// Machine is what an expression may look at.
type Machine interface {
	// Register returns the value of a register, and whether it has one.
	Register(num uint64) (uint64, bool)
	// Word reads size bytes of memory, 1 to 8.
	Word(addr uint64, size int) (uint64, error)
}

// Operations of expressions, DW_OP_*.
const (
	exAddr, exDeref                                   = 0x03, 0x06
	exConst1U, exConst8S                              = 0x08, 0x0f
	exConstU, exConstS                                = 0x10, 0x11
	exDup, exDrop, exOver, exPick, exSwap, exRot      = 0x12, 0x13, 0x14, 0x15, 0x16, 0x17
	exAbs, exAnd, exDiv, exMinus, exMod, exMul        = 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e
	exNeg, exNot, exOr, exPlus, exPlusU               = 0x1f, 0x20, 0x21, 0x22, 0x23
	exShl, exShr, exShra, exXor                       = 0x24, 0x25, 0x26, 0x27
	exBra, exEq, exGE, exGT, exLE, exLT, exNE, exSkip = 0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x2e, 0x2f
	exLit0, exLit31, exBreg0, exBreg31                = 0x30, 0x4f, 0x70, 0x8f
	exBregX, exDerefSize, exNop                       = 0x92, 0x94, 0x96
)

const (
	maxDepth = 64    // values on the stack of an expression
	maxSteps = 10000 // operations of one expression, which may jump back
)

// expression is one that is computed.
type expression struct {
	cursor
	m     Machine
	stack []uint64
}

// Eval computes an expression, with first on its stack, for a machine with addresses of word
// bytes.
func Eval(code []byte, first uint64, word int, m Machine, left *Budget) (uint64, error) {
	e := expression{cursor: cursor{b: code, word: word}, m: m, stack: append(make([]uint64, 0, 8), first)}
	for steps := 0; e.more() && e.err == nil; steps++ {
		if steps == maxSteps {
			return 0, formatError("an expression of more than %d steps", maxSteps)
		}
		if err := left.Spend(1); err != nil {
			return 0, err
		}
		e.step()
	}
	v := e.pop()
	return v, e.err
}

// stop ends an expression with the error of a machine.
func (e *expression) stop(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *expression) push(v uint64) {
	if len(e.stack) == maxDepth {
		e.fail("too many values in an expression")
		return
	}
	e.stack = append(e.stack, e.mask(v))
}

func (e *expression) pop() uint64 {
	v := e.pick(0)
	if e.err == nil {
		e.stack = e.stack[:len(e.stack)-1]
	}
	return v
}

// pick returns the value below n others.
func (e *expression) pick(n int) uint64 {
	if n >= len(e.stack) {
		e.fail("too few values in an expression")
		return 0
	}
	return e.stack[len(e.stack)-1-n]
}

// step carries out one operation.
func (e *expression) step() {
	op := e.byte()
	switch {
	case op >= exLit0 && op <= exLit31:
		e.push(uint64(op - exLit0))
	case op >= exBreg0 && op <= exBreg31:
		e.based(uint64(op - exBreg0))
	case op >= exConst1U && op <= exConst8S:
		size := 1 << ((op - exConst1U) / 2)
		if op%2 == 0 {
			e.push(e.fixed(size))
		} else {
			e.push(uint64(e.signed(size)))
		}
	case op >= exAnd && op <= exXor && op != exNeg && op != exNot && op != exPlusU, op >= exEq && op <= exNE:
		b, a := e.pop(), e.pop()
		e.push(e.compute(op, a, b))
	default:
		e.other(op)
	}
}

func (e *expression) other(op byte) {
	switch op {
	case exNop:
	case exAddr:
		e.push(e.fixed(e.word))
	case exConstU:
		e.push(e.uleb())
	case exConstS:
		e.push(uint64(e.sleb()))
	case exBregX:
		e.based(e.uleb())
	case exDeref:
		e.deref(e.word)
	case exDerefSize:
		e.deref(int(e.byte()))
	case exDup:
		e.push(e.pick(0))
	case exDrop:
		e.pop()
	case exOver:
		e.push(e.pick(1))
	case exPick:
		e.push(e.pick(int(e.byte())))
	case exSwap:
		b, a := e.pop(), e.pop()
		e.push(b)
		e.push(a)
	case exRot:
		c, b, a := e.pop(), e.pop(), e.pop()
		e.push(c)
		e.push(a)
		e.push(b)
	case exAbs:
		e.push(uint64(max(e.number(e.pick(0)), -e.number(e.pop()))))
	case exNeg:
		e.push(-e.pop())
	case exNot:
		e.push(^e.pop())
	case exPlusU:
		e.push(e.pop() + e.uleb())
	case exSkip:
		e.jump(e.signed(2))
	case exBra:
		if to := e.signed(2); e.pop() != 0 {
			e.jump(to)
		}
	default:
		e.fail("an unknown operation of an expression")
	}
}

// based pushes what a register has, plus an offset.
func (e *expression) based(num uint64) {
	off := e.sleb()
	v, ok := e.m.Register(num)
	if !ok {
		e.fail("a register without a value in an expression")
	}
	e.push(v + uint64(off))
}

func (e *expression) deref(size int) {
	addr := e.pop()
	if size < 1 || size > e.word {
		e.fail("an impossible size in an expression")
	}
	if e.err != nil {
		return
	}
	v, err := e.m.Word(addr, size)
	if err != nil {
		e.stop(err)
		return
	}
	e.push(v)
}

func (e *expression) jump(to int64) {
	at := int64(e.at) + to
	if at < 0 || at > int64(len(e.b)) {
		e.fail("a jump out of an expression")
		return
	}
	e.at = int(at)
}

// number returns a value with its sign.
func (e *expression) number(v uint64) int64 {
	if e.word == 4 {
		return int64(int32(v))
	}
	return int64(v)
}

// compute carries out an operation on two values.
func (e *expression) compute(op byte, a, b uint64) uint64 {
	x, y := e.number(a), e.number(b)
	switch op {
	case exAnd:
		return a & b
	case exOr:
		return a | b
	case exXor:
		return a ^ b
	case exPlus:
		return a + b
	case exMinus:
		return a - b
	case exMul:
		return a * b
	case exDiv, exMod:
		if b == 0 {
			e.fail("a division by zero in an expression")
			return 0
		}
		if op == exDiv {
			return uint64(x / y)
		}
		return a % b
	case exShl:
		return a << b
	case exShr:
		return a >> b
	case exShra:
		return uint64(x >> min(b, 63))
	}
	return truth(op, x, y)
}

// truth compares two values: 1 for true.
func truth(op byte, x, y int64) uint64 {
	var is bool
	switch op {
	case exEq:
		is = x == y
	case exNE:
		is = x != y
	case exGE:
		is = x >= y
	case exGT:
		is = x > y
	case exLE:
		is = x <= y
	case exLT:
		is = x < y
	}
	if is {
		return 1
	}
	return 0
}
