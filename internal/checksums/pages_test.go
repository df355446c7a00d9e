package checksums

import (
	"testing"

	"github.com/procmem/procmem"
)

// A page that comes in parts, with a fault between, has one checksum.
func TestSumOfParts(t *testing.T) {
	whole := make([]byte, procmem.PageSize)
	copy(whole[100:], "first")
	copy(whole[3000:], "second")
	s := NewPages()
	s.Add(0x1000+100, whole[100:200])
	s.Add(0x1000+3000, whole[3000:3007])
	s.Add(0x1000+3007, whole[3007:])
	one := NewPages()
	one.Set(0x1000, whole)
	if s.of(0x1000) != one.of(0x1000) || s.of(0x1000) == zeroSum || s.of(0x2000) != zeroSum {
		t.Errorf("%#x, whole %#x", s.of(0x1000), one.of(0x1000))
	}
	one.Forget(procmem.Range{Start: 0x1000, End: 0x2000})
	if one.of(0x1000) != zeroSum {
		t.Error("a page that was forgotten is not zeros")
	}
}
