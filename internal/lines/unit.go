package lines

// unit is a compile unit: what a compiler made of one source file.
type unit struct {
	off, first, end uint64 // in .debug_info: of its header, of its root, and behind it
	version         uint16
	wide            bool
	addrSize        int
	abbrevs         uint64

	low                            uint64 // what ranges without a base count from
	strOffsets, addrBase, rangesAt uint64 // bases of indexed forms
	lines                          uint64 // in .debug_line
	hasLines                       bool
	dir                            value
}

// span is the code from low up to high, which is of the unit or the function with that number.
type span struct {
	low, high uint64
	of        uint32
}
