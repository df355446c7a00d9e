package packed

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/procmem/procmem/internal/zenc"
)

const (
	tableMagic  = skippableMagic | 0xE // of the skippable frame with the table
	footerMagic = 0x8F92EAB1
	headerSize  = 8 // magic number and size of the skippable frame
	footerSize  = 9 // number of frames, flags, magic number

	flagChecksums = 1 << 7 // each entry has a checksum
	flagsReserved = 0x1f << 2

	// maxFrames is the number of frames that a decoder accepts, by the reference
	// implementation.
	maxFrames = 0x8000000
	// maxPlain bounds the memory, in bytes, that reading a single byte may take.
	maxPlain = 64 << 20
)

// ErrNotSeekable reports that a file has no table of its frames, or one that makes no sense.
// The frames may be whole.
var ErrNotSeekable = errors.New("no usable seek table")

// errNoTable reports that there is no table.
var errNoTable = fmt.Errorf("%w: there is none", ErrNotSeekable)

// errTable reports that there is a damaged table. The frames may be whole.
var errTable = fmt.Errorf("%w: it is damaged", ErrNotSeekable)

// writeTable writes the table at the end of the file. last is the plain length of the last
// frame, unless that is a part of the head.
func (w *Writer) writeTable(last int64) error {
	le := binary.LittleEndian
	out := bufio.NewWriterSize(writerFunc(w.output), 64<<10)
	entry := le.AppendUint32(nil, tableMagic)
	out.Write(le.AppendUint32(entry, uint32(8*len(w.sizes)+footerSize))) // errors stick until Flush
	for i, size := range w.sizes {
		plain := uint32(w.plain(i))
		if i == len(w.sizes)-1 && int64(i)*frameSize >= w.head {
			plain = uint32(last)
		}
		out.Write(le.AppendUint32(le.AppendUint32(entry[:0], size), plain))
	}
	footer := append(le.AppendUint32(entry[:0], uint32(len(w.sizes))), 0)
	out.Write(le.AppendUint32(footer, footerMagic))
	return out.Flush()
}

type writerFunc func(p []byte) error

func (f writerFunc) Write(p []byte) (int, error) {
	if err := f(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// frameAt is the place of a frame. Its size compressed bytes at off are the plain bytes from
// start on.
type frameAt struct {
	off, start int64
	size       uint32
	sum        uint32 // of the table, where it has checksums
}

// readTable returns the frames that hold data, in order, and one more that begins at the end of
// the data. sums says whether the table has checksums.
func readTable(r io.ReaderAt, size int64) (frames []frameAt, sums bool, err error) {
	le := binary.LittleEndian
	if size < headerSize+footerSize {
		return nil, false, errNoTable
	}
	var b [12]byte
	if err := readFull(r, b[:footerSize], size-footerSize); err != nil {
		return nil, false, fmt.Errorf("read seek table: %w", err)
	}
	marked := le.Uint32(b[5:]) == footerMagic
	n, flags, step := le.Uint32(b[:]), b[4], int64(8)
	if sums = flags&flagChecksums != 0; sums {
		step = 12
	}
	content := int64(n)*step + footerSize
	begin := size - content - headerSize
	if fits := flags&flagsReserved == 0 && n <= maxFrames && begin >= 0; !fits {
		if !marked {
			return nil, false, errNoTable
		}
		return nil, false, fmt.Errorf("%w: %d frames with flags %#x do not fit a file of %d bytes", errTable, n, flags, size)
	}
	in := bufio.NewReaderSize(io.NewSectionReader(r, begin, size-begin), 64<<10)
	if _, err := io.ReadFull(in, b[:headerSize]); err != nil {
		return nil, false, fmt.Errorf("read seek table: %w", err)
	}
	switch found := le.Uint32(b[:]) == tableMagic && int64(le.Uint32(b[4:])) == content; {
	case !found && !marked:
		return nil, false, errNoTable
	case !found:
		return nil, false, fmt.Errorf("%w: no table of %d frames at %#x", errTable, n, begin)
	case !marked:
		return nil, false, fmt.Errorf("%w: it does not end with its magic number", errTable)
	}

	// frames grows with what is read, because the file may be one large hole.
	var at, before frameAt
	var prev uint32
	for i := range n {
		if _, err := io.ReadFull(in, b[:step]); err != nil {
			return nil, false, fmt.Errorf("read seek table: %w", err)
		}
		at.size = le.Uint32(b[:])
		plain := le.Uint32(b[4:])
		at.sum = le.Uint32(b[8:])
		err := at.check(plain, begin)
		// Usually all frames but the last are of one size. One of another size would move all
		// frames after it, so its own header is asked.
		if err == nil && i == 1 && plain != prev {
			err = contradicts(r, before, prev)
		}
		if err == nil && (i > 0 && i < n-1 && plain != prev || plain == 0) {
			err = contradicts(r, at, plain)
		}
		if err != nil {
			kind := errTable
			if plain > maxPlain && contradicts(r, at, plain) == nil {
				kind = ErrNotSeekable
			}
			return nil, false, fmt.Errorf("%w: frame %d: %w", kind, i, err)
		}
		if plain > 0 { // else the frame is empty, or to be skipped
			frames = append(frames, at)
		}
		before, prev = at, plain
		at.off += int64(at.size)
		at.start += int64(plain)
	}
	if at.off != begin {
		return nil, false, fmt.Errorf("%w: it is about %d bytes of %d", errTable, at.off, begin)
	}
	return append(frames, frameAt{off: at.off, start: at.start}), sums, nil
}

// check returns an error if the table's entry of a frame cannot be true. end is the offset of
// the table.
func (e frameAt) check(plain uint32, end int64) error {
	switch {
	case e.size < headerSize || e.off+int64(e.size) > end:
		return fmt.Errorf("%d compressed bytes at %#x", e.size, e.off)
	case plain > maxPlain:
		return fmt.Errorf("%d bytes are more than can be read at once", plain)
	case plain > 0 && int64(e.size) > 2*int64(plain)+1<<20:
		return fmt.Errorf("%d bytes are compressed to %d", plain, e.size)
	}
	return nil
}

// contradicts returns an error if the frame's own header has another size than plain. A frame
// without a size, or a damaged one, does not make the table wrong.
func contradicts(r io.ReaderAt, e frameAt, plain uint32) error {
	head := make([]byte, min(zstd.HeaderMaxSize, e.size))
	if err := readFull(r, head, e.off); err != nil {
		return nil
	}
	if plain == 0 && e.size > mostEmpty && binary.LittleEndian.Uint32(head) == zenc.Magic {
		return fmt.Errorf("it has %d compressed bytes, and none by the table", e.size)
	}
	return sizeOf(head, plain)
}

// mostEmpty is the largest size, in bytes, of a frame without data: its header, a block and a
// checksum.
const mostEmpty = zstd.HeaderMaxSize + 3 + 4

// sizeOf returns an error if the header of a frame has another size than plain.
func sizeOf(head []byte, plain uint32) error {
	var h zstd.Header
	if h.Decode(head) != nil || h.Skippable || !h.HasFCS || h.FrameContentSize == uint64(plain) {
		return nil
	}
	return fmt.Errorf("it holds %d bytes, %d by the table", h.FrameContentSize, plain)
}

// readFull fills p, or returns why it could not.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
