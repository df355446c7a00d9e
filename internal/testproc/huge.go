package testproc

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// HugePages lets n hugetlb pages of 2 MiB be allocated until the test ends, when the system's
// setting becomes what it was. Call it once, before Start, which then has the mapping huge.
// Where it may not be set the test is skipped. Tests that use it wait for one another.
func HugePages(t testing.TB, n int) {
	t.Helper()
	const path = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages"
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(cache, "hugepages.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	for {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("testproc: no huge pages here: %v", err)
	}
	old, err := strconv.Atoi(strings.TrimSpace(string(before)))
	if err != nil {
		t.Fatalf("testproc: %s: %v", path, err)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(old+n)), 0); err != nil {
		t.Skipf("testproc: no huge pages here: %v", err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, before, 0); err != nil {
			t.Errorf("testproc: %v", err)
		}
	})
}
