package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// Every command works on a process and on a core of it, and ends with the status that its help
// tells.
func TestCommands(t *testing.T) {
	p := root.start(t, testproc.Zoo, "--nospin", "--only", "-", "--ballast", "1M")
	pid, dir := p.PID(), t.TempDir()
	path := fmt.Sprintf("%s/core.%d", dir, pid)
	packed := path + ".zst"
	ballast := p.Map(t, "ballast")
	needle := fmt.Sprintf("%x", p.Want(t, ballast, 0)[:16])
	none := strings.Repeat("5a", 8) + needle // which is the beginning of the ballast

	names := strings.NewReplacer(dir+"/", "", strconv.Itoa(pid), "PID", needle, "HEX", fmt.Sprint(ballast.Start), "ADDRESS")
	for _, c := range []struct {
		status int
		stdout string
		args   []any
	}{
		{0, "can be read and held still", []any{"doctor", pid}},
		{1, "no process", []any{"doctor", 4000000}},
		{0, "anon", []any{"maps", pid}},
		{0, `"readable":true`, []any{"doctor", "--json", pid}},
		{0, "(?s)^.{16,64}$", []any{"read", "-f", "raw", pid, fmt.Sprintf("%v+64", ballast.Start)}},
		{0, "(?s)zoo-1.*zoo-8", []any{"threads", pid}},
		{0, "(?s)zoo-1.*zoo-8", []any{"threads", "--registers", pid}},
		{0, fmt.Sprintf("%x", uint64(ballast.Start)), []any{"search", pid, "--hex", needle}},
		{1, "", []any{"search", pid, "--hex", none}},
		{0, "procmem zoo: .rodata", []any{"strings", pid}},
		{0, "", []any{"core", "-o", dir + "/core", pid}},
		{1, "exists", []any{"core", "-o", dir + "/core", pid}},
		{0, "", []any{"verify", path}},
		{0, "", []any{"info", path}},
		{0, "anon", []any{"maps", path}},
		{0, "(?s)^.{16,64}$", []any{"read", "-f", "raw", path, fmt.Sprintf("%v+64", ballast.Start)}},
		{0, "(?s)zoo-1.*zoo-8", []any{"threads", path}},
		{0, fmt.Sprintf("%x", uint64(ballast.Start)), []any{"search", path, "--hex", needle}},
		{0, ".", []any{"strings", path}},
		{0, "", []any{"diff", path, path}},
		{0, "", []any{"pack", path}},
		{0, "", []any{"verify", packed}},
		{0, "", []any{"diff", path, packed}},
		{0, "", []any{"unpack", packed, "-o", dir + "/unpacked"}},
		{0, "", []any{"verify", dir + "/unpacked"}},
		{0, "", []any{"dump", pid, "-o", dir + "/dump"}},
		{2, "usage|unknown", []any{"core", "--no-such-flag", pid}},
		{1, "no process", []any{"core", "-o", dir + "/none", 4000000}},
	} {
		t.Run(names.Replace(strings.TrimSpace(fmt.Sprintln(c.args...))), func(t *testing.T) {
			root.call(t, c.args...).want(t, c.status, c.stdout)
			unharmed(t, p)
		})
	}
	t.Run("diff of what has changed", func(t *testing.T) {
		p.CmdInts(t, "returns") // another command than before is in a buffer
		root.call(t, "diff", path, pid).want(t, 1, "")
	})
	t.Run("verify of what is damaged", func(t *testing.T) {
		damage(t, path)
		root.call(t, "verify", path).want(t, 1, "")
	})
	if left, _ := filepath.Glob(dir + "/*.partial"); left != nil {
		t.Errorf("%q are left", left)
	}
}

// damage changes a byte in the middle of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := len(b) / 2
	for b[at] == 0 { // a hole has no checksum of its own
		at++
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
