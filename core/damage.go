package core

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/procmem/procmem"
)

// Damage is a part of a core that is not as it was written: a range of memory, or another part
// of the file.
type Damage struct {
	procmem.Range       // of memory; empty for another part of the file
	Offset        int64 // of the other part in the file, in bytes; 0 for memory
	Size          int64 // of either, in bytes
	// Err says what shows the damage. It is procmem.ErrTruncated if the file ends before the
	// part, ErrChecksum or ErrZeros if a checksum shows it, and otherwise the error of reading.
	Err error
}

// Damage that checksums show.
var (
	// ErrChecksum reports bytes that differ from those of which the checksum was taken.
	ErrChecksum = errors.New("not what its checksum says")
	// ErrZeros reports a hole of the file where the checksum is that of data.
	ErrZeros = errors.New("zeros in place of data")
)

// MarshalJSON returns the object that docs/json.md describes: range, offset, bytes, and the
// text of Err as the reason.
func (d Damage) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		procmem.Range
		Offset int64  `json:"offset"`
		Size   int64  `json:"bytes"`
		Reason string `json:"reason"`
	}{d.Range, d.Offset, d.Size, d.Err.Error()})
	return b.Bytes(), err
}

// String returns the part and what is wrong with it, for people.
func (d Damage) String() string {
	if d.Empty() {
		return fmt.Sprintf("file offset %#x, %d bytes: %v", d.Offset, d.Size, d.Err)
	}
	return fmt.Sprintf("%v: %v", d.Range, d.Err)
}
