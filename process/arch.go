package process

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/procmem/procmem"
)

// Arch returns the architecture of the executable. It reads only the bytes of the file that
// tell it, because the file may have been made to be read for ever. It does not read a file on
// a server. Then the auxiliary vector tells the architecture, among those that this machine can
// run. Arch fails if the file is no ELF file or cannot be read, and for an unknown
// architecture.
func (p *Process) Arch() (procmem.Arch, error) {
	if exe, err := p.Exe(); err == nil {
		if ms := p.knownMounts(); ms.Below(strings.TrimSuffix(exe, " (deleted)")) {
			return p.archOfAuxv()
		}
	}
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

// archOfAuxv tells the size of a word by that of a program header (AT_PHENT).
func (p *Process) archOfAuxv() (procmem.Arch, error) {
	b, err := parseMem(p, "auxv", readMemory)
	if err != nil {
		return 0, err
	}
	const size64, size32 = 56, 32
	if size, _ := procmem.AMD64.AuxvValue(b, procmem.ATPhent); size == size64 {
		if runtime.GOARCH == "arm64" {
			return procmem.ARM64, nil
		}
		return procmem.AMD64, nil
	}
	if size, _ := procmem.I386.AuxvValue(b, procmem.ATPhent); size == size32 && runtime.GOARCH == "amd64" {
		return procmem.I386, nil
	}
	return 0, fmt.Errorf("/proc/%d/auxv: no architecture that is known", p.pid)
}
