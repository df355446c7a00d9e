package kernels

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

var (
	run   = flag.Bool("run-kernels", false, "boot the machines; takes hours")
	write = flag.String("write", "", "the file for the tables")
	quick = flag.Bool("quick", false, "run a part of the tests")
	do    = flag.String("do", "", "the command to run in the machines, instead of all tests")
	dumps = flag.Int("dumps", 50, "how many cores of the witness are taken, by each method")
	kills = flag.Int("kills", 4, "how often the helper of procmem is killed, by each method")
	limit = flag.Duration("limit", time.Hour, "how long one machine may take")
	cache = flag.String("cache", defaultCache(), "a folder for what is downloaded")
	watch = flag.Bool("console", false, "print what a machine writes, as it comes")
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
	var all []*ran
	for _, m := range machines {
		t.Run(m.name, func(t *testing.T) {
			all = append(all, m.test(t))
		})
		if *write == "" || all == nil {
			continue
		}
		// After each machine: a run that is cut short keeps what it has.
		var text bytes.Buffer
		page(t, &text, all)
		if err := os.WriteFile(*write, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// test runs all commands in a machine, and makes their tests subtests.
func (m machine) test(t *testing.T) *ran {
	commands := commands()
	if *do != "" {
		commands = []string{*do}
	}
	image := archive{m.suite, m.arch}.kernel(t, m.kernel)
	console, err := m.boot(t, image, m.initramfs(t, commands), *limit)
	if err != nil {
		t.Error(err)
	}
	r := &ran{machine: m, steps: parse(t, console, commands)}
	r.told("machine", func(_ string, v map[string]string) { r.release, r.page = v["release"], v["page"] })
	for i, s := range r.steps {
		t.Run(strconv.Itoa(i), s.report)
	}
	return r
}
