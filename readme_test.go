package procmem_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// The program in README.md compiles as it is shown, and does what is said of it.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, found := strings.Cut(string(readme), "```go\n")
	code, _, ended := strings.Cut(code, "```\n")
	if !found || !ended {
		t.Fatal("README.md has no program")
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if os.Getuid() != 0 {
		t.Skip("running it takes root")
	}
	p := testproc.Start(t, testproc.Kids, "password")
	cmd := exec.Command(program, strconv.Itoa(p.PID()))
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := len(regexp.MustCompile(`(?m)^0x\w+-0x\w+: "password"$`).FindAll(out, -1)); !regexp.MustCompile(`^\d+ mappings\n`).Match(out) || n < 2 {
		t.Errorf("%d matches:\n%s", n, out)
	}
}
