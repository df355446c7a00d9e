package procmem

// Types of the entries of an auxiliary vector that have a name here
// (include/uapi/linux/auxvec.h, getauxval(3)).
const (
	ATPhdr        = 3  // address of the program headers
	ATPhent       = 4  // size of a program header
	ATEntry       = 9  // address of the first instruction of the program
	ATRandom      = 25 // address of 16 random bytes
	ATExecFn      = 31 // address of the path that was executed
	ATSysinfoEHdr = 33 // address of the vDSO
)

// atNull is the type of the entry that ends a vector.
const atNull = 0

// TrimAuxv returns the whole entries of an auxiliary vector up to and with the first AT_NULL:
// on some kernels /proc/PID/auxv has zeros behind it. Complete reports whether there was one.
// The result is part of auxv.
func (a Arch) TrimAuxv(auxv []byte) (entries []byte, complete bool) {
	step := 2 * a.WordSize()
	for i := 0; i+step <= len(auxv); i += step {
		if a.word(auxv[i:], 0) == atNull {
			return auxv[:i+step], true
		}
	}
	return auxv[:len(auxv)/step*step], false
}

// AuxvValue returns the value of the first entry of type typ in an auxiliary vector, which has
// words of the architecture's size. Ok is false if there is none in front of AT_NULL.
func (a Arch) AuxvValue(auxv []byte, typ uint64) (value uint64, ok bool) {
	entries, _ := a.TrimAuxv(auxv)
	for step := 2 * a.WordSize(); len(entries) > 0; entries = entries[step:] {
		if a.word(entries, 0) == typ {
			return a.word(entries, 1), true
		}
	}
	return 0, false
}
