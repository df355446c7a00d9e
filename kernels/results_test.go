package kernels

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// step is what became of one command in a machine.
type step struct {
	command string
	status  string // "" where the machine ended before it did
	output  []byte
	tests   []*outcome
}

// outcome is what became of one test.
type outcome struct {
	name   string
	action string // pass, fail or skip; "" where it has not ended
	output strings.Builder
	attrs  []attr
}

// attr is an attribute of a test, of which a key may have several.
type attr struct{ key, value string }

// event is one of "go doc test2json".
type event struct{ Action, Test, Output, Key, Value string }

// parse takes what a machine has written apart.
func parse(t *testing.T, console []byte, commands []string) []step {
	t.Helper()
	steps := make([]step, len(commands))
	var now *step
	for line := range bytes.Lines(console) {
		var n int
		var status string
		text := string(bytes.TrimSpace(line))
		switch {
		case strings.HasPrefix(text, begins):
			if _, err := fmt.Sscanf(text, begins+"%d", &n); err == nil && n < len(steps) {
				now = &steps[n]
			}
		case strings.HasPrefix(text, ends):
			if _, err := fmt.Sscanf(text, ends+"%d %s", &n, &status); err == nil && n < len(steps) {
				steps[n].status = status
			}
			now = nil
		case now != nil:
			now.output = append(append(now.output, bytes.TrimRight(line, "\r\n")...), '\n')
		}
	}
	for i := range steps {
		steps[i].command = commands[i]
		steps[i].tests = outcomes(t, steps[i].output)
	}
	return steps
}

// outcomes returns the tests of one step, in the order in which they began.
func outcomes(t *testing.T, text []byte) (found []*outcome) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "test2json")
	cmd.Stdin = bytes.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	by := map[string]*outcome{}
	for line := range bytes.Lines(out) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil || e.Test == "" {
			continue
		}
		o := by[e.Test]
		if o == nil {
			o = &outcome{name: e.Test}
			by[e.Test], found = o, append(found, o)
		}
		switch e.Action {
		case "pass", "fail", "skip":
			o.action = e.Action
		case "output":
			o.output.WriteString(e.Output)
		case "attr":
			o.attrs = append(o.attrs, attr{e.Key, e.Value})
		}
	}
	return found
}

// report makes each test of the machine a test here, so that a failure has its name.
func (s step) report(t *testing.T) {
	t.Logf("%s: status %s", s.command, s.status)
	failed := false
	for _, o := range s.tests {
		t.Run(o.name, func(t *testing.T) {
			switch o.action {
			case "pass": // what it says is for -v
				t.Log(o.output.String())
			case "skip":
				t.Skip(o.output.String())
			case "fail":
				failed = true
				t.Error(o.output.String())
			default:
				failed = true
				t.Error("it has not ended\n" + o.output.String())
			}
		})
	}
	if len(s.tests) == 0 {
		t.Logf("%s", s.output)
	}
	if s.status == "" {
		t.Errorf("%s: the machine ended before it did\n%s", s.command, s.output)
	} else if s.status != "0" && !failed {
		t.Errorf("%s: status %s\n%s", s.command, s.status, s.output)
	}
}
