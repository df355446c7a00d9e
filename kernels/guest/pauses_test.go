package guest

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

var pauses = flag.String("pauses", "", "measure pauses of a process with so much memory, such as 512M")

// TestPauses compares pauses of the methods, in one boot: a time in a machine means nothing
// alone. It wants nothing of them.
func TestPauses(t *testing.T) {
	if *pauses == "" {
		t.Skip("-pauses is not given")
	}
	for _, load := range []struct{ name, rate string }{
		{"idle", "-1"}, {"a writer of 20,000 pages a second", "20000"}, {"a writer as fast as it can", "0"},
	} {
		t.Run(load.name, func(t *testing.T) {
			p := root.start(t, testproc.Many, "fill", *pauses, "random", "--gap", "--writer", load.rate)
			took := map[string][]float64{}
			const rounds = 3
			for range rounds {
				for _, method := range []string{"none", "precopy", "fork", "stop", "auto"} {
					p.Cmd(t, "gap reset")
					if method == "none" {
						time.Sleep(2 * time.Second) // what the machine itself costs
					} else if pause, ok := pauseBy(t, p, method); ok {
						took[method+" pause_ms"] = append(took[method+" pause_ms"], pause)
					}
					time.Sleep(200 * time.Millisecond) // a gap counts once it is over
					longest := slices.Max(p.CmdInts(t, "gap"))
					took[method+" gap"] = append(took[method+" gap"], float64(longest)/1e6)
				}
			}
			for _, name := range []string{"none gap", "precopy pause_ms", "precopy gap", "fork pause_ms", "fork gap", "stop pause_ms", "stop gap", "auto pause_ms", "auto gap"} {
				slices.Sort(took[name])
				t.Logf("%-18s %.1f", name, took[name])
			}
		})
	}
}

// pauseBy returns the pause of a core by one method, in milliseconds.
func pauseBy(t *testing.T, p *testproc.Proc, method string) (ms float64, ok bool) {
	t.Helper()
	prefix := t.TempDir() + "/core"
	defer os.Remove(fmt.Sprintf("%s.%d", prefix, p.PID())) // it is in memory
	r := root.call(t, "core", "--json", "--method", method, "-o", prefix, p.PID())
	var got struct {
		Method string  `json:"method"`
		Pause  float64 `json:"pause_ms"`
	}
	if r.status != 0 || json.Unmarshal([]byte(r.stdout), &got) != nil {
		t.Logf("%s: %s", method, r.stderr)
		return 0, false
	}
	if method == "auto" {
		t.Log("auto took ", got.Method)
	}
	return got.Pause, true
}
