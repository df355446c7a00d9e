package process

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/procmem/procmem"
)

// Arch returns the architecture of the executable. No more is read of that
// than what tells it: the file may have been made to be read for ever.
func (p *Process) Arch() (procmem.Arch, error) {
	f, err := p.OpenMem("exe")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	arch, err := archOf(f)
	if err != nil {
		return 0, fmt.Errorf("/proc/%d/exe: %w", p.pid, err)
	}
	return arch, nil
}

func archOf(r io.ReaderAt) (procmem.Arch, error) {
	var head [20]byte // e_ident, e_type, e_machine
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return 0, fmt.Errorf("read ELF header: %w", err)
	}
	if string(head[:4]) != elf.ELFMAG {
		return 0, errors.New("no ELF file")
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	return procmem.ArchOf(elf.Class(head[elf.EI_CLASS]), elf.Machine(order.Uint16(head[18:])))
}
