package guest

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The machine has the kernel that it tells.
func TestMachine(t *testing.T) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	tell(t, "machine", map[string]string{"release": unix.ByteSliceToString(u.Release[:]),
		"page": strconv.Itoa(os.Getpagesize())})
}
