package process

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/procmem/procmem/internal/procfs"
)

func TestReadAhead(t *testing.T) {
	// Longer than what is read ahead, and given up in the middle.
	text := new(strings.Builder)
	for i := range 20000 {
		fmt.Fprintf(text, "%x-%x r--p 00000000 00:00 0 \n", (2*i+1)<<12, (2*i+2)<<12)
	}
	r, stop := readAhead(strings.NewReader(text.String()))
	ms, err := procfs.ParseMaps(r)
	stop()
	if err != nil || len(ms) != 20000 {
		t.Errorf("%d mappings, %v", len(ms), err)
	}
	fails := errors.New("fails")
	r, stop = readAhead(io.MultiReader(strings.NewReader(text.String()), iotest.ErrReader(fails)))
	if _, err := procfs.ParseMaps(r); !errors.Is(err, fails) {
		t.Errorf("%v; want %v", err, fails)
	}
	stop()
	r, stop = readAhead(strings.NewReader(text.String()))
	r.Read(make([]byte, 10))
	stop()
}
