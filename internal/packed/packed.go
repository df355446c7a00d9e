// Package packed reads and writes compressed files that can be read at any place. The format is
// seekable zstd: a sequence of independent frames with a table of them at the end. Every zstd
// tool unpacks such a file. Writer makes one, Log makes one of memory that still changes, and
// Reader reads one in place. Open gives the plain bytes of a file, however it is compressed.
//
// The format:
// https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md
package packed

import (
	"bytes"
	"encoding/binary"

	"github.com/procmem/procmem/internal/zenc"
)

// frameSize is how many plain bytes each frame but the last holds. That much is decompressed to
// read a single page, and it is enough to compress well.
const frameSize = zenc.MaxFrame

// zeroFrame is the compressed form of frameSize zeros. A block of a single byte comes first,
// because zstd up to 1.4.3 refuses a frame that begins with a repeated byte.
const zeroFrame = "\x28\xb5\x2f\xfd" + // magic number
	"\xa4\x00\x00\x04\x00" + // one segment, with a checksum, of frameSize
	"\x08\x00\x00\x00" + // 1 byte, uncompressed
	"\x02\x00\x10\x00" + // 128 KiB of zeros
	"\xfb\xff\x0f\x00" + // one less, the last block
	"\x40\x27\x0f\xa6" // the lower half of XXH64

const skippableMagic = 0x184D2A50 // and the 15 numbers after it

// IsPacked reports whether a file that begins with head is compressed with zstd or gzip. head
// must have at least four bytes.
func IsPacked(head []byte) bool { return isZstd(head) || isGzip(head) }

func isZstd(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	magic := binary.LittleEndian.Uint32(head)
	return magic == zenc.Magic || magic&^0xf == skippableMagic
}

// gzipMagic is the magic number with the method deflate, the only method that exists.
const gzipMagic = "\x1f\x8b\x08"

func isGzip(head []byte) bool { return bytes.HasPrefix(head, []byte(gzipMagic)) }
