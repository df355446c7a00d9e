package packed

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

// Reader reads a file in the seekable format at any place. It is safe for concurrent use. It
// checks frames against their own checksums and those of the table, where there are any.
type Reader struct {
	r        io.ReaderAt
	frames   []frameAt // the frames, and one more that begins at the end of the data
	sums     bool      // the table has checksums of them
	decoders sync.Pool
	cache    cache
	data     func() []plainRange
}

// plainRange is the interval [start, end) of the plain data.
type plainRange struct{ start, end int64 }

// FrameError reports a part of the plain data that cannot be read. Offset and Len are in bytes
// of the plain data.
type FrameError struct {
	Index       int // among the frames that hold data, from 0
	Offset, Len int64
	Err         error
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("unpack frame %d, %d bytes at offset %#x: %v", e.Index, e.Len, e.Offset, e.Err)
}

func (e *FrameError) Unwrap() error { return e.Err }

// End returns the offset at which the part ends.
func (e *FrameError) End() int64 { return e.Offset + e.Len }

// NewReader reads the table of a file of size bytes. It fails with ErrNotSeekable if there is
// no table that makes sense.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	frames, sums, err := readTable(r, size)
	if err != nil {
		return nil, err
	}
	pr := &Reader{r: r, frames: frames, sums: sums}
	pr.data = sync.OnceValue(pr.findData)
	return pr, nil
}

// Size returns the length of the plain data, in bytes.
func (r *Reader) Size() int64 { return r.frames[len(r.frames)-1].start }

// ReadAt implements io.ReaderAt. It fails with a *FrameError if a frame cannot be decompressed.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read packed core at offset %d: negative", off)
	}
	n := 0
	for i := r.find(off); n < len(p); i++ {
		if i == len(r.frames)-1 {
			return n, io.EOF
		}
		m, err := r.readFrame(p[n:], i, int(off+int64(n)-r.frames[i].start))
		if err != nil {
			return n, &FrameError{i, r.frames[i].start, int64(r.plain(i)), err}
		}
		n += m
	}
	return n, nil
}

// find returns the index of the frame that holds off.
func (r *Reader) find(off int64) int {
	last := len(r.frames) - 1
	return sort.Search(last, func(i int) bool { return r.frames[i+1].start > off })
}

// plain returns how many plain bytes a frame holds.
func (r *Reader) plain(i int) int { return int(r.frames[i+1].start - r.frames[i].start) }

// readFrame reads up to the end of one frame, from skip bytes after its start.
func (r *Reader) readFrame(p []byte, i, skip int) (int, error) {
	n := min(len(p), r.plain(i)-skip)
	if r.isZero(i) {
		clear(p[:n])
		return n, nil
	}
	if n == r.plain(i) && !r.cache.has(i) {
		return n, r.decode(i, p[:n:n])
	}
	b, err := r.borrow(i)
	if err != nil {
		return 0, err
	}
	copy(p[:n], b.data[skip:])
	r.cache.giveBack(b)
	return n, nil
}

// mayBeZero reports whether a frame has the sizes of zeroFrame.
func (r *Reader) mayBeZero(i int) bool {
	return i < len(r.frames)-1 && r.frames[i].size == uint32(len(zeroFrame)) && r.plain(i) == frameSize
}

func (r *Reader) isZero(i int) bool {
	if !r.mayBeZero(i) {
		return false
	}
	var b [len(zeroFrame)]byte
	return readFull(r.r, b[:], r.frames[i].off) == nil && string(b[:]) == zeroFrame
}

// decoder is what one goroutine needs to decode a frame.
type decoder struct {
	zstd *zstd.Decoder
	in   []byte
}

func newDecoder() (*decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxPlain), zstd.WithDecodeAllCapLimit(true))
	return &decoder{zstd: z}, err
}

// decode decompresses a frame into p. len(p) and cap(p) must be its plain length.
func (r *Reader) decode(i int, p []byte) error {
	d, _ := r.decoders.Get().(*decoder)
	if d == nil {
		var err error
		if d, err = newDecoder(); err != nil {
			return err
		}
	}
	defer r.decoders.Put(d)
	f := &r.frames[i]
	if cap(d.in) < int(f.size) {
		d.in = make([]byte, max(f.size, frameSize+64))
	}
	d.in = d.in[:f.size]
	if err := readFull(r.r, d.in, f.off); err != nil {
		return err
	}
	if err := sizeOf(d.in, uint32(len(p))); err != nil {
		return err
	}
	out, err := d.zstd.DecodeAll(d.in, p[:0])
	if err == nil && len(out) != len(p) {
		err = fmt.Errorf("it holds %d bytes, %d by the table", len(out), len(p))
	}
	if err == nil && r.sums && uint32(xxhash.Sum64(out)) != f.sum {
		err = errors.New("it is not what the checksum in the table says")
	}
	return err
}

// NextData returns the first run of bytes at or after off that is not known to be all zero. If
// there is none, it returns Size(), Size().
func (r *Reader) NextData(off int64) (start, end int64) {
	data := r.data()
	i := sort.Search(len(data), func(i int) bool { return data[i].end > off })
	if i == len(data) {
		return r.Size(), r.Size()
	}
	return max(off, data[i].start), data[i].end
}

// findData returns the runs of frames that are not zeroFrame.
func (r *Reader) findData() []plainRange {
	var data []plainRange
	buf := make([]byte, 1024*len(zeroFrame))
	for i := 0; i < len(r.frames)-1; {
		// Frames of zeros are usually adjacent, and are read at once.
		n := 0
		for n < 1024 && r.mayBeZero(i+n) && r.frames[i+n].off == r.frames[i].off+int64(n*len(zeroFrame)) {
			n++
		}
		b := buf[:n*len(zeroFrame)]
		known := n > 0 && readFull(r.r, b, r.frames[i].off) == nil
		for k := range max(n, 1) {
			if known && string(b[k*len(zeroFrame):][:len(zeroFrame)]) == zeroFrame {
				continue
			}
			s := plainRange{r.frames[i+k].start, r.frames[i+k+1].start}
			if last := len(data) - 1; last >= 0 && data[last].end == s.start {
				data[last].end = s.end
			} else {
				data = append(data, s)
			}
		}
		i += max(n, 1)
	}
	return data
}
