package kernels

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

var (
	run   = flag.Bool("run-kernels", false, "boot the machines; takes most of an hour")
	cache = flag.String("cache", defaultCache(), "a folder for what is downloaded")
	do    = flag.String("do", "", "the command to run in the machines, instead of all tests")
	watch = flag.Bool("console", false, "print what a machine writes, as it comes")
	limit = flag.Duration("limit", 20*time.Minute, "how long one machine may take")
)

func defaultCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "procmem-kernels")
}

// One machine runs at a time: an emulated one keeps as many processors busy as it has.
func TestKernel(t *testing.T) {
	if !*run {
		t.Skip("run it with: make kernels")
	}
	for _, m := range machines {
		t.Run(m.name, m.test)
	}
}

func (m machine) test(t *testing.T) {
	image := archive{m.suite, m.arch}.kernel(t, m.kernel)
	commands := []string{*do}
	console, err := m.boot(t, image, m.initramfs(t, commands), *limit)
	if err != nil {
		t.Error(err)
	}
	for i, s := range parse(t, console, commands) {
		t.Run(strconv.Itoa(i), s.report)
	}
}
