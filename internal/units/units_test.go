package units

import "testing"

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{
		0:             "0 B",
		512:           "512 B",
		1023:          "1023 B",
		1024:          "1.0 KiB",
		1536:          "1.5 KiB",
		1<<20 - 1:     "1.0 MiB", // not 1024.0 KiB
		1<<20 - 53:    "1023.9 KiB",
		3 << 29:       "1.5 GiB",
		1<<64 - 1:     "16.0 EiB",
		1 << 60:       "1.0 EiB",
		1<<60 | 1<<59: "1.5 EiB",
	} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}
