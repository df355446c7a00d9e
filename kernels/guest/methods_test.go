package guest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
)

// report is what "core --json" says.
type report struct {
	Method     string `json:"method"`
	Consistent bool   `json:"consistent"`
	Reason     string `json:"inconsistent_reason"`
	Why        string `json:"why"`
}

// A method does what it promises, or says why it does not, and then the target is as it was.
func TestMethods(t *testing.T) {
	for _, method := range []string{"stop", "fork", "precopy", "auto", "live"} {
		t.Run(method, func(t *testing.T) {
			p := root.start(t, testproc.Zoo, "--nospin", "--only", "-", "--ballast", "40M")
			dir := t.TempDir()
			r := root.call(t, "core", "--json", "--method", method, "-o", dir+"/core", p.PID())
			unharmed(t, p)
			if r.status == 1 {
				tellTaken(t, "", sentence(t, r))
				return
			}
			r.want(t, 0, "")
			var got report
			if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
				t.Fatal(err)
			}
			if got.Consistent != (method != "live") {
				t.Errorf("consistent: %v, because %s", got.Consistent, got.Reason)
			}
			why := got.Why
			if method == "live" {
				why = got.Reason
			}
			tellTaken(t, got.Method, why)
			wantBallast(t, p, fmt.Sprintf("%s/core.%d", dir, p.PID()))
		})
	}
}

// wantBallast compares pages of what the helper planted with a core.
func wantBallast(t *testing.T, p *testproc.Proc, path string) {
	t.Helper()
	c, err := core.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := p.Map(t, "ballast")
	for i := 0; i < m.Pages(); i += max(1, m.Pages()/100) {
		page := p.Want(t, m, i)
		got := make([]byte, len(page))
		if _, err := c.ReadAt(got, m.Page(i)); err != nil || string(got) != string(page) {
			t.Fatalf("page %d of %d: %v, begins with %.8x, want %.8x", i, m.Pages(), err, got, page)
		}
	}
}

// sentence returns what procmem said why it could not, which is one line.
func sentence(t *testing.T, r result) string {
	t.Helper()
	line := strings.TrimSpace(r.stderr)
	if !strings.HasPrefix(line, "procmem: ") || strings.Contains(line, "\n") {
		t.Errorf("%v\nwant one sentence", r)
	}
	return strings.TrimPrefix(line, "procmem: ")
}
