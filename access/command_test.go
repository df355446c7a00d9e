package access

import (
	"strings"
	"testing"
)

// What a remedy says does not contradict itself.
func TestLive(t *testing.T) {
	for words, want := range map[string]string{
		"core --method stop -o x 7":           "procmem core --method live -o x 7",
		"core 7 --max-pause=1s --method=fork": "procmem core --method live 7",
		"dump -o d 7 --max-pause 1s":          "procmem dump --method live -o d 7",
		"threads 7":                           "procmem threads --method live 7",
	} {
		c := caller{program: "procmem", words: strings.Fields(words)}
		if got := c.live(7); got != want {
			t.Errorf("%s: %q; want %q", words, got, want)
		}
	}
}
