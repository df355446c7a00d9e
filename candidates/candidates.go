package candidates

import (
	"fmt"
	"math/bits"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/search"
)

// Origin is the memory in which candidates were found.
type Origin struct {
	PID     int    `json:"pid,omitempty"`     // 0 if a core does not tell
	Start   uint64 `json:"start,omitempty"`   // of the process, in clock ticks after boot; 0 for a core
	Boot    string `json:"boot,omitempty"`    // which boot of the machine that was; "" for a core
	Program uint32 `json:"program,omitempty"` // tells the programs apart that one process has executed
	Core    string `json:"core,omitempty"`    // the path; "" for a process
}

// Info is what all candidates of a file have in common.
type Info struct {
	Type      search.Type `json:"-"`
	Align     int         `json:"align"` // of the addresses; in bytes, a power of two
	BigEndian bool        `json:"big_endian"`
	Word      int         `json:"word"` // bytes of a pointer
	Origin    Origin      `json:"origin"`
}

// Options returns the options with which a value for these candidates is parsed and compared.
func (i *Info) Options() search.ValueOptions {
	return search.ValueOptions{Align: i.Align, BigEndian: i.BigEndian, Word: i.Word}
}

// size returns the bytes of a value.
func (i *Info) size() int { return i.Type.Size(i.Word) }

// unit returns the bytes between two places in a page that are told apart.
func (i *Info) unit() int {
	return min(procmem.PageSize, 1<<bits.TrailingZeros(uint(i.Align)))
}

// check returns why no candidates can be like this.
func (i *Info) check() error {
	if i.Word != 4 && i.Word != 8 {
		return fmt.Errorf("pointers of %d bytes", i.Word)
	}
	if i.Align < 1 || i.Align > 1<<30 {
		return fmt.Errorf("an alignment of %d bytes", i.Align)
	}
	return nil
}

// Candidate is an address at which the value that is looked for may be. Its values have the
// size of the type, in the byte order of the target, and are valid until the next candidate.
type Candidate struct {
	Addr  procmem.Addr
	Value []byte // when it was last looked at
	Now   []byte // what is there now; nil unless it comes from Narrow
}
