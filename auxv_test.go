package procmem

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestAuxv(t *testing.T) {
	var b []byte
	for _, w := range []uint64{ATEntry, 0x1234, ATSysinfoEHdr, 0x7000, atNull, 0, ATPhdr, 5} {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	if got, complete := AMD64.TrimAuxv(b); len(got) != 48 || !complete {
		t.Errorf("trimmed to %d bytes, want 48", len(got))
	}
	if got, complete := AMD64.TrimAuxv(b[:39]); len(got) != 32 || complete {
		t.Errorf("without an end: %d bytes, want 32", len(got))
	}
	if v, ok := AMD64.AuxvValue(b, ATSysinfoEHdr); v != 0x7000 || !ok {
		t.Errorf("vdso %#x, %v", v, ok)
	}
	if v, ok := AMD64.AuxvValue(b, ATPhdr); ok {
		t.Errorf("found %#x behind the end", v)
	}
}

// FuzzAuxv takes anything for an auxiliary vector.
func FuzzAuxv(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte, typ uint64) {
		for _, arch := range []Arch{AMD64, I386} {
			whole, _ := arch.TrimAuxv(b)
			if !bytes.HasPrefix(b, whole) || len(whole)%(2*arch.WordSize()) != 0 || len(b)-len(whole) >= 2*arch.WordSize() && len(whole) == 0 {
				t.Fatalf("%d bytes of %d", len(whole), len(b))
			}
			if _, ok := arch.AuxvValue(b, typ); ok && len(whole) == 0 {
				t.Fatal("found a value in nothing")
			}
		}
	})
}
