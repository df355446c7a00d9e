package lines

// Forms of values, which debug/dwarf does not export.
const (
	formAddr          = 0x01
	formBlock2        = 0x03
	formBlock4        = 0x04
	formData2         = 0x05
	formData4         = 0x06
	formData8         = 0x07
	formString        = 0x08
	formBlock         = 0x09
	formBlock1        = 0x0a
	formData1         = 0x0b
	formFlag          = 0x0c
	formSdata         = 0x0d
	formStrp          = 0x0e
	formUdata         = 0x0f
	formRefAddr       = 0x10
	formRef1          = 0x11
	formRef2          = 0x12
	formRef4          = 0x13
	formRef8          = 0x14
	formRefUdata      = 0x15
	formIndirect      = 0x16
	formSecOffset     = 0x17
	formExprloc       = 0x18
	formFlagPresent   = 0x19
	formStrx          = 0x1a
	formAddrx         = 0x1b
	formRefSup4       = 0x1c
	formStrpSup       = 0x1d
	formData16        = 0x1e
	formLineStrp      = 0x1f
	formRefSig8       = 0x20
	formImplicitConst = 0x21
	formLoclistx      = 0x22
	formRnglistx      = 0x23
	formRefSup8       = 0x24
	formStrx1         = 0x25
	formStrx2         = 0x26
	formStrx3         = 0x27
	formStrx4         = 0x28
	formAddrx1        = 0x29
	formAddrx2        = 0x2a
	formAddrx3        = 0x2b
	formAddrx4        = 0x2c
	formGNUAddrIndex  = 0x1f01
	formGNUStrIndex   = 0x1f02
	formGNURefAlt     = 0x1f20
	formGNUStrpAlt    = 0x1f21
)

// value is that of an attribute: a number, an offset, an index, or text that is in place.
type value struct {
	form uint16 // 0 if there is none
	n    uint64
	text []byte
}

// fixedSize returns the bytes of a form, -1 if they vary.
func (u *unit) fixedSize(form uint16) int {
	switch form {
	case formFlagPresent, formImplicitConst:
		return 0
	case formData1, formFlag, formRef1, formStrx1, formAddrx1:
		return 1
	case formData2, formRef2, formStrx2, formAddrx2:
		return 2
	case formStrx3, formAddrx3:
		return 3
	case formData4, formRef4, formRefSup4, formStrx4, formAddrx4:
		return 4
	case formData8, formRef8, formRefSig8, formRefSup8:
		return 8
	case formData16:
		return 16
	case formAddr:
		return u.addrSize
	case formRefAddr:
		if u.version <= 2 {
			return u.addrSize
		}
		return u.offsetSize()
	case formStrp, formSecOffset, formLineStrp, formStrpSup, formGNURefAlt, formGNUStrpAlt:
		return u.offsetSize()
	}
	return -1
}

func (u *unit) offsetSize() int {
	if u.wide {
		return 8
	}
	return 4
}

// value reads one. An unknown form, whose length nobody knows, makes the cursor bad.
func (u *unit) value(c *cursor, form uint16, implicit int64) value {
	v := value{form: form}
	switch form {
	case formFlagPresent:
		v.n = 1
	case formImplicitConst:
		v.n = uint64(implicit)
	case formData16:
		c.take(16)
	case formString:
		v.text = c.text()
	case formSdata:
		v.n = uint64(c.sleb())
	case formUdata, formRefUdata, formStrx, formAddrx, formLoclistx, formRnglistx, formGNUAddrIndex, formGNUStrIndex:
		v.n = c.uleb()
	case formBlock, formExprloc:
		v.text = c.take(c.uleb())
	case formBlock1:
		v.text = c.take(c.uint(1))
	case formBlock2:
		v.text = c.take(c.uint(2))
	case formBlock4:
		v.text = c.take(c.uint(4))
	case formIndirect:
		next := small(c.uleb())
		if next == formIndirect || next == formImplicitConst {
			c.bad = true
			return value{}
		}
		return u.value(c, next, 0)
	default:
		n := u.fixedSize(form)
		if n < 0 {
			c.bad = true
			return value{}
		}
		v.n = c.uint(n)
	}
	return v
}

// string returns the text that v means, "" if it cannot be had.
func (p *Program) string(u *unit, v value) string {
	switch v.form {
	case formString:
		return string(v.text[:min(len(v.text), maxText)])
	case formStrp:
		return p.str.text(v.n)
	case formLineStrp:
		return p.lineStr.text(v.n)
	case formStrpSup, formGNUStrpAlt:
		if p.alt != nil {
			return p.alt.str.text(v.n)
		}
	case formStrx, formStrx1, formStrx2, formStrx3, formStrx4, formGNUStrIndex:
		size := uint64(u.offsetSize())
		if v.n > 1<<32 {
			return ""
		}
		if b, err := p.strOffsets.exactly(u.strOffsets+v.n*size, size); err == nil {
			c := cursor{b: b, wide: u.wide}
			return p.str.text(c.offset())
		}
	}
	return ""
}

// address returns the address that v means. Ok is false if v is none, such as a length.
func (p *Program) address(u *unit, v value) (a uint64, ok bool) {
	switch v.form {
	case formAddr:
		return v.n, true
	case formAddrx, formAddrx1, formAddrx2, formAddrx3, formAddrx4, formGNUAddrIndex:
		return p.addressAt(u, v.n)
	}
	return 0, false
}

// addressAt returns the address with that index in .debug_addr.
func (p *Program) addressAt(u *unit, index uint64) (uint64, bool) {
	size := uint64(u.addrSize)
	if index > 1<<32 {
		return 0, false
	}
	b, err := p.addr.exactly(u.addrBase+index*size, size)
	if err != nil {
		return 0, false
	}
	c := cursor{b: b, addrSize: u.addrSize}
	return c.addr(), true
}
