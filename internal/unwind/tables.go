package unwind

import (
	"errors"

	"github.com/procmem/procmem/internal/cfi"
)

// module is a program or a library that is loaded.
type module struct {
	tables []table        // in the order in which they are asked
	late   func() []table // reads further ones; nil when that has been done
	err    error          // why there are none
}

// table is call frame information and what its addresses are relative to.
type table struct {
	*cfi.Table
	bias uint64 // an address less the one in the table, modulo 2^64
}

// contents is a table that is held.
type contents []byte

// ReadAt fills p from the offset addr, or fails.
func (c contents) ReadAt(p []byte, addr uint64) error {
	if addr > uint64(len(c)) || uint64(len(p)) > uint64(len(c))-addr {
		return errNotELF
	}
	copy(p, c[addr:])
	return nil
}

// find returns the rules for an address.
func (m *module) find(pc uint64, left *cfi.Budget) (*cfi.Row, error) {
	err := m.err
	for i := 0; ; i++ {
		if i == len(m.tables) && m.late != nil {
			m.tables = append(m.tables, m.late()...)
			m.late = nil
		}
		if i == len(m.tables) {
			return nil, err
		}
		t := m.tables[i]
		row, failed := t.Find(pc-t.bias, left)
		if failed == nil {
			return row, nil
		}
		if !errors.Is(failed, cfi.ErrNone) {
			err = failed
		}
	}
}
