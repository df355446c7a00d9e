package target

import "testing"

func TestProcessOf(t *testing.T) {
	for word, want := range map[string]string{
		"/proc/12": "12", "/proc/12/": "12", "/proc/12/mem": "12", "/proc/12/maps": "12", "/proc/12/smaps": "12", "/proc/self/mem": "self",
		"/proc/12/exe": "", "/proc/12/root/core": "", "/proc/": "", "/proc": "", "/proc/kcore": "", "/proc/1x/mem": "", "proc/12/mem": "", "12": "",
	} {
		pid, ok := processOf(word)
		if ok != (want != "") || ok && pid != want {
			t.Errorf("%s: %q, %v; want %q", word, pid, ok, want)
		}
	}
}
