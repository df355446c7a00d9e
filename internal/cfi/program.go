package cfi

import "bytes"

// Instructions of call frame programs, DW_CFA_*. The first three have an operand in the low
// six bits.
const (
	opAdvance = 0x40
	opOffset  = 0x80
	opRestore = 0xc0

	opNop, opSetLoc, opAdvance1, opAdvance2, opAdvance4           = 0x00, 0x01, 0x02, 0x03, 0x04
	opOffsetExt, opRestoreExt, opUndefined, opSame, opRegister    = 0x05, 0x06, 0x07, 0x08, 0x09
	opRemember, opRestoreState                                    = 0x0a, 0x0b
	opDefCFA, opDefCFAReg, opDefCFAOffset, opDefCFAExpr           = 0x0c, 0x0d, 0x0e, 0x0f
	opExpr, opOffsetSF, opDefCFASF, opDefCFAOffsetSF              = 0x10, 0x11, 0x12, 0x13
	opValOffset, opValOffsetSF, opValExpr                         = 0x14, 0x15, 0x16
	opAdvance8, opNegateRAPC, opNegateRA, opArgsSize, opNegOffset = 0x1d, 0x2c, 0x2d, 0x2e, 0x2f
)

// maxRemembered bounds how many states are remembered. Compilers nest two or three.
const maxRemembered = 64

// state is the rules at one place of a program.
type state struct {
	cfa  Rule
	regs [Registers]Rule
}

// machine runs a program up to one address.
type machine struct {
	*cie
	loc, pc    uint64
	now        state
	initial    *state // behind the program of the CIE; nil in it
	remembered []state
}

// row runs the program of a function up to an address in it.
func (f *fde) row(pc uint64, left *Budget) (*Row, error) {
	m := machine{cie: f.cie, loc: f.begin, pc: pc}
	if err := m.run(f.cie.program, left); err != nil {
		return nil, err
	}
	initial := m.now
	m.initial, m.loc = &initial, f.begin
	if err := m.run(f.program, left); err != nil {
		return nil, err
	}
	return m.row()
}

func (m *machine) row() (*Row, error) {
	if m.now.cfa.Kind == Unspecified {
		return nil, formatError("no rule for the frame of %#x", m.pc)
	}
	r := &Row{CFA: m.now.cfa, RA: uint8(m.ra), Signal: m.signal}
	r.CFA.Code = bytes.Clone(r.CFA.Code) // of the entry, which is not kept
	for num, rule := range m.now.regs {
		if rule.Kind != Unspecified {
			rule.Code = bytes.Clone(rule.Code)
			r.Rules = append(r.Rules, RegRule{rule, uint8(num)})
		}
	}
	return r, nil
}

// run carries out a program until its end, or until it is beyond the address.
func (m *machine) run(program []byte, left *Budget) error {
	c := cursor{b: program, word: m.word}
	for c.more() && c.err == nil {
		if err := left.Spend(1); err != nil {
			return err
		}
		loc := m.loc
		if err := m.step(&c); err != nil {
			return err
		}
		if m.loc > m.pc || m.loc < loc {
			break
		}
	}
	return c.err
}

// step carries out one instruction.
func (m *machine) step(c *cursor) error {
	op := c.byte()
	low := uint64(op & 0x3f)
	switch op & 0xc0 {
	case opAdvance:
		m.loc += low * m.codeAlign
		return nil
	case opOffset:
		m.set(low, Rule{Kind: Offset, Off: int64(c.uleb()) * m.dataAlign})
		return nil
	case opRestore:
		return m.restore(low)
	}
	switch op {
	case opNop, opNegateRA, opNegateRAPC: // signed addresses are known by their bits
	case opSetLoc:
		if m.enc&0x70 != encAbs { // relative to where the program is, which no compiler writes
			return formatError("a jump in a program")
		}
		m.loc = c.pointer(m.enc, 0)
	case opAdvance1:
		m.loc += c.fixed(1) * m.codeAlign
	case opAdvance2:
		m.loc += c.fixed(2) * m.codeAlign
	case opAdvance4:
		m.loc += c.fixed(4) * m.codeAlign
	case opAdvance8:
		m.loc += c.fixed(8) * m.codeAlign
	case opRestoreExt:
		return m.restore(c.uleb())
	case opRemember:
		if len(m.remembered) == maxRemembered {
			return formatError("more than %d states are remembered", maxRemembered)
		}
		m.remembered = append(m.remembered, m.now)
	case opRestoreState:
		if len(m.remembered) == 0 {
			return formatError("no state is remembered")
		}
		m.now = m.remembered[len(m.remembered)-1]
		m.remembered = m.remembered[:len(m.remembered)-1]
	case opArgsSize:
		c.uleb()
	case opDefCFA, opDefCFAReg, opDefCFAOffset, opDefCFAExpr, opDefCFASF, opDefCFAOffsetSF:
		return m.defineCFA(op, c)
	default:
		return m.define(op, c)
	}
	return nil
}

// defineCFA carries out the instructions that say where the frame is.
func (m *machine) defineCFA(op byte, c *cursor) error {
	cfa := &m.now.cfa
	switch op {
	case opDefCFAExpr:
		*cfa = Rule{Kind: ValExpr, Code: c.take(c.uleb())}
		return nil
	case opDefCFA, opDefCFASF, opDefCFAReg:
		reg := c.uleb()
		if reg >= Registers {
			return formatError("a frame by register %d", reg)
		}
		*cfa = Rule{Kind: Register, Reg: uint8(reg), Off: cfa.Off}
	}
	switch op {
	case opDefCFA, opDefCFAOffset:
		cfa.Off = int64(c.uleb())
	case opDefCFASF, opDefCFAOffsetSF:
		cfa.Off = c.sleb() * m.dataAlign
	}
	if cfa.Kind != Register {
		return formatError("an offset from no register")
	}
	return nil
}

// define carries out the instructions that give one register a rule.
func (m *machine) define(op byte, c *cursor) error {
	reg := c.uleb()
	switch op {
	case opOffsetExt:
		m.set(reg, Rule{Kind: Offset, Off: int64(c.uleb()) * m.dataAlign})
	case opOffsetSF:
		m.set(reg, Rule{Kind: Offset, Off: c.sleb() * m.dataAlign})
	case opNegOffset:
		m.set(reg, Rule{Kind: Offset, Off: -int64(c.uleb()) * m.dataAlign})
	case opValOffset:
		m.set(reg, Rule{Kind: ValOffset, Off: int64(c.uleb()) * m.dataAlign})
	case opValOffsetSF:
		m.set(reg, Rule{Kind: ValOffset, Off: c.sleb() * m.dataAlign})
	case opUndefined:
		m.set(reg, Rule{Kind: Undefined})
	case opSame:
		m.set(reg, Rule{Kind: Same})
	case opRegister:
		from := c.uleb()
		if from >= Registers {
			m.set(reg, Rule{Kind: Undefined}) // such as a vector register
			break
		}
		m.set(reg, Rule{Kind: Register, Reg: uint8(from)})
	case opExpr:
		m.set(reg, Rule{Kind: Expr, Code: c.take(c.uleb())})
	case opValExpr:
		m.set(reg, Rule{Kind: ValExpr, Code: c.take(c.uleb())})
	default:
		return formatError("instruction %#x", op)
	}
	return nil
}

func (m *machine) set(reg uint64, r Rule) {
	if reg < Registers {
		m.now.regs[reg] = r
	}
}

// restore gives a register the rule that the CIE has for it.
func (m *machine) restore(reg uint64) error {
	switch {
	case m.initial == nil:
		return formatError("a CIE that restores a register")
	case reg < Registers:
		m.now.regs[reg] = m.initial.regs[reg]
	}
	return nil
}
