package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CapsetAll is capset(2) for all OS threads of this process. The Go runtime stops the world for
// it, so no thread is born with another set. In a program that is linked with cgo it fails with
// ENOTSUP.
func CapsetAll(hdr *unix.CapUserHeader, data *[2]unix.CapUserData) error {
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(hdr)), uintptr(unsafe.Pointer(data)), 0); e != 0 {
		return e
	}
	return nil
}
