package sys

import "golang.org/x/sys/unix"

// SameMemory reports whether two tasks have the same address space (kcmp(2), KCMP_VM). Two
// tasks that have none any more have the same. EPERM: the caller may not read both. ESRCH: one
// is gone. ENOSYS: the kernel has no kcmp.
//
// It waits for a task that is in the middle of an exec, until a signal ends the caller.
func SameMemory(a, b int) (bool, error) {
	const kcmpVM = 1
	order, err := kcmp(a, b, kcmpVM)
	return err == nil && order == 0, err
}

// CompareFiles compares the tables of files of two tasks (KCMP_FILES): 0 if both have the same
// one, else -1 or +1, in some order that stays the same until the machine is booted. Its errors
// are those of SameMemory.
func CompareFiles(a, b int) (int, error) {
	const kcmpFiles = 2
	return kcmp(a, b, kcmpFiles)
}

func kcmp(a, b int, what uintptr) (order int, err error) {
	r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), what, 0, 0, 0)
	switch {
	case e != 0:
		return 0, e
	case r == 1:
		return -1, nil
	}
	return min(int(r), 1), nil
}
