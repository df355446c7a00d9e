package guest

import (
	"encoding/json"
	"testing"
)

// tellTaken tells what a method has come to.
func tellTaken(t *testing.T, took, why string) {
	t.Helper()
	tell(t, "taken", map[string]string{"took": took, "why": why})
}

// tellDoctor tells what doctor says under a condition.
func tellDoctor(t *testing.T, condition, sentence string) {
	t.Helper()
	tell(t, "doctor", map[string]string{"condition": condition, "sentence": sentence})
}

func tell(t *testing.T, key string, value map[string]string) {
	t.Helper()
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	t.Attr(key, string(b))
}
