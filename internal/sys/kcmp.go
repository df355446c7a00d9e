package sys

import "golang.org/x/sys/unix"

// SameMemory reports whether two tasks have the same address space (kcmp(2), KCMP_VM). Two
// tasks that have none any more have the same. EPERM: the caller may not read both. ESRCH: one
// is gone. ENOSYS: the kernel has no kcmp.
//
// It waits for a task that is in the middle of an exec, until a signal ends the caller.
func SameMemory(a, b int) (bool, error) {
	const kcmpVM = 1
	return kcmp(a, b, kcmpVM)
}

// SameFiles is SameMemory for the tables of files (KCMP_FILES).
func SameFiles(a, b int) (bool, error) {
	const kcmpFiles = 2
	return kcmp(a, b, kcmpFiles)
}

func kcmp(a, b int, what uintptr) (bool, error) {
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), what, 0, 0, 0)
	if e != 0 {
		return false, e
	}
	return r == 0, nil
}
