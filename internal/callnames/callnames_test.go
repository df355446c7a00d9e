package callnames

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/procmem/procmem"
)

var update = flag.Bool("update", false, "write the tables of golang.org/x/sys/unix")

var constant = regexp.MustCompile(`(?m)^\tSYS_(\w+) += (\d+)$`)

func TestTables(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil || len(dir) == 0 {
		t.Skipf("the source of golang.org/x/sys is not here: %v", err)
	}
	for arch := range parsed {
		source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch.String()+".go"))
		if err != nil {
			t.Fatal(err)
		}
		var want strings.Builder
		for _, m := range constant.FindAllStringSubmatch(string(source), -1) {
			fmt.Fprintf(&want, "%s %s\n", m[2], strings.ToLower(m[1]))
		}
		path := filepath.Join("tables", arch.String()+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(want.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want.String() {
			t.Errorf("%s is not what golang.org/x/sys has, %v: go test ./internal/callnames -update", path, err)
		}
	}
}

func TestOf(t *testing.T) {
	for arch, number := range map[procmem.Arch]int{procmem.AMD64: 202, procmem.I386: 240, procmem.ARM64: 98} {
		if got := Of(arch, number); got != "futex" {
			t.Errorf("%v: %d is %q", arch, number, got)
		}
	}
	if got := Of(procmem.AMD64, 99999) + Of(0, 1); got != "" {
		t.Errorf("unknown calls have the name %q", got)
	}
}
