package core

import (
	"errors"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/checksums"
)

// compareParts compares with their checksums the parts that tell of the process and of where
// its memory lies. All that is read depends on these.
func (f *File) compareParts() {
	if f.sums == (fileRange{}) {
		return
	}
	if spans, err := checksums.ReadSpans(f.r, f.sums.off, f.sums.end-f.sums.off); err == nil { // Verify reports damage of the note itself
		f.broken = append(f.broken, f.damagedSpans(spans)...)
	}
}

// damagedSpans returns those spans that are not as they were written. They do not overlap.
func (f *File) damagedSpans(spans []checksums.Span) (out []Damage) {
	left := min(maxParts, f.size)
	for _, s := range spans {
		reason := ErrChecksum
		switch {
		case s.Size < 0 || s.Off < 0 || s.Off > f.size-s.Size:
			reason = procmem.ErrTruncated
		case s.Size > left:
			reason = errSpan
		default:
			left -= s.Size
			same, err := s.Match(f.r)
			if err != nil {
				reason = err
			} else if same {
				continue
			}
		}
		out = append(out, Damage{Offset: s.Off, Size: s.Size, Err: reason})
	}
	return out
}

// maxParts, in bytes, is more than headers and notes take in all: those of 150,000 threads. A
// file that is one large hole may claim any size.
const maxParts = 2 << 30

var errSpan = errors.New("larger than all headers and notes can be")
