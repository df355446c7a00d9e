package inject

import (
	"encoding/gob"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// A helper that was killed before it has read what to do resets the connection.
func TestHelperIsGone(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := &Helper{}
	if k.conn, err = unixConn(pair[0]); err != nil {
		t.Fatal(err)
	}
	defer k.conn.Close()
	k.dec = gob.NewDecoder(k)
	if _, err := k.conn.Write([]byte("what to do")); err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	if _, err := k.Listen(t.Context()); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%v; want %v", err, unix.ECONNRESET)
	}
}
