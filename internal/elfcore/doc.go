// Package elfcore encodes and decodes what a core file says beside its memory: the ELF header,
// the program headers and the notes.
//
// It knows bytes and not files. Package core decides where in a file they lie, and what a
// damaged one still tells. The layouts are those of elf(5), core(5) and the kernel
// (fs/binfmt_elf.c, include/linux/elfcore.h), for amd64, i386 and arm64. The notes of procmem
// itself are in docs/core-file.md.
//
// Bytes to decode may be hostile. They give an error, and never a panic.
package elfcore
