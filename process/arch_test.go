package process

import (
	"bytes"
	"strings"
	"testing"
)

// A program for 32-bit arm is refused by name, and not taken for another.
func TestArch32BitArm(t *testing.T) {
	head := []byte("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x28\x00")
	if arch, err := archOf(bytes.NewReader(head)); err == nil || !strings.Contains(err.Error(), "EM_ARM: not supported") {
		t.Errorf("%v, %v", arch, err)
	}
}

// No executable takes more than its first bytes to tell its architecture.
func FuzzArch(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x3e\x00"))
	f.Add([]byte("\x7fELF\x01\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &atMost{bytes.NewReader(b), 20}
		if arch, err := archOf(r); err == nil && arch.WordSize() == 0 {
			t.Errorf("%v", arch)
		}
	})
}

// atMost is a file of which no more may be read.
type atMost struct {
	*bytes.Reader
	left int
}

func (r *atMost) ReadAt(p []byte, off int64) (int, error) {
	if r.left -= len(p); r.left < 0 || off > 20 {
		panic("more was read than is needed")
	}
	return r.Reader.ReadAt(p, off)
}
