package packed

import (
	"encoding/binary"
	"slices"

	"github.com/procmem/procmem/internal/zenc"
)

// EncodeHead returns frames that hold p uncompressed. Frames of other data of the same length
// take as many bytes, so they can be overwritten. The frames have no checksum, because a core
// has its own.
func EncodeHead(p []byte) []byte {
	packed, _ := encodeHead(p)
	return packed
}

// encodeHead is EncodeHead, and also returns the sizes of the frames.
func encodeHead(p []byte) (packed []byte, sizes []uint32) {
	le := binary.LittleEndian
	for frame := range slices.Chunk(p, frameSize) {
		had := len(packed)
		packed = le.AppendUint32(packed, zenc.Magic)
		packed = append(packed, 0xa0) // one segment, its size in four bytes
		packed = le.AppendUint32(packed, uint32(len(frame)))
		for at := 0; at < len(frame); at += zenc.MaxBlock {
			block := frame[at:min(at+zenc.MaxBlock, len(frame))]
			head := uint32(len(block)) << 3 // uncompressed
			if at+len(block) == len(frame) {
				head |= 1 // the last block
			}
			packed = append(packed, byte(head), byte(head>>8), byte(head>>16))
			packed = append(packed, block...)
		}
		sizes = append(sizes, uint32(len(packed)-had))
	}
	return packed, sizes
}
