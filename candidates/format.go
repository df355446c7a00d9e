package candidates

import (
	"hash/crc32"
	"math"

	"github.com/procmem/procmem"
)

// A file of candidates holds the places where a wanted value may be, with what each held when
// it was last looked at. It is written and read as a stream, and in frames, each of which can
// be worked on alone:
//
//	"procmem candidates 1\n"
//	length, CRC-32C and bytes of the head: Info in JSON
//	frames: length, CRC-32C and bytes
//	0, CRC-32C of the next 8 bytes, and the number of candidates in them
//
// Numbers in front are 4 bytes long, little endian, as is all else. A frame is pages, ascending
// over the whole file:
//
//	number of the page, less one more than that of the page before (uvarint);
//	of the first page in a frame: the number itself
//	one byte: how the places are written (bits 0 and 1), and the values (bits 2 and 3)
//	the places, in units of the alignment:
//	  0  all that there are
//	  1  a bitmap
//	  2  how many (uvarint), the first, and of the others how many are between it and the one before (uvarint each)
//	the values:
//	  0  one after the other
//	  1  one, which all have
//	  2  a bitmap of those that are not zero, and these
//
// whichever is shortest.
const fileMagic = "procmem candidates 1\n"

// Limits of what is in a frame, which bound the memory that it takes to work on one.
const (
	maxFrameCandidates = 64 << 10
	maxFramePages      = 4096
	maxFrameBytes      = 1 << 20
	maxHeadBytes       = 64 << 10
)

// maxSlots is how many candidates one page can hold.
const maxSlots = procmem.PageSize

const (
	placesAll = iota
	placesBitmap
	placesList
)

const (
	valuesRaw = iota
	valuesSame
	valuesSparse
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fileHead is the head of a file.
type fileHead struct {
	TypeName string `json:"type"`
	Info
}

const lastPage = math.MaxUint64 / procmem.PageSize
