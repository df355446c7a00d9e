package harm

import (
	"encoding/json"
	"os"
	"testing"
)

// built is the command under test, where it was built on another machine: see package kernels.
var built = os.Getenv("PROCMEM_TEST_PROGRAM")

// skipLacking skips the test of a method that this kernel does not have. On the machine that
// procmem was built on it skips none.
func skipLacking(t *testing.T, method string) {
	t.Helper()
	if built == "" {
		return
	}
	var said struct {
		Prediction struct {
			Methods []struct{ Method, Obstacle string }
		}
	}
	r := call(t, "doctor", "--json", os.Getpid())
	if err := json.Unmarshal([]byte(r.stdout), &said); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	for _, m := range said.Prediction.Methods {
		if m.Method == method && m.Obstacle != "" {
			t.Skip(m.Obstacle)
		}
	}
}
