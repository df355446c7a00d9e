package sink

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Whatever the sizes of writes, the file holds them one behind the other.
func TestStream(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 0))
		path := filepath.Join(t.TempDir(), "out")
		f, err := Create(path, false)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Abort()
		if seed%2 == 0 {
			noDirect(f)
		}
		s, want := NewStream(f), []byte(nil)
		for len(want) < 4<<20 {
			n := random.IntN(1 << random.IntN(22))
			switch random.IntN(6) {
			case 0:
				n = streamBlock
			case 1:
				n = streamBlock - len(want)%streamBlock // up to the end of a block
			}
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(len(want) + i*7)
			}
			want = append(want, p...)
			if m, err := s.Write(p); m != n || err != nil {
				t.Fatalf("seed %d: wrote %d of %d, %v", seed, m, n, err)
			}
			clear(p) // which is the caller's again
		}
		if seed < 2 {
			want = want[:len(want)/streamBlock*streamBlock] // nothing is left to flush but in a buffer
			f.Truncate(0)
			s = NewStream(f)
			if _, err := s.Write(want); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // the second has nothing to do
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %d bytes, %v; want %d, or others", seed, len(got), err, len(want))
		}
	}
}

// An error of the file is that of the write that meets it, and says how much
// was taken.
func TestStreamError(t *testing.T) {
	f, err := Create(filepath.Join(t.TempDir(), "out"), false)
	if err != nil {
		t.Fatal(err)
	}
	noDirect(f)
	s := NewStream(f)
	if n, err := s.Write(make([]byte, streamBlock-1)); n != streamBlock-1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	f.f.Close()
	if n, err := s.Write([]byte{1, 2, 3}); n != 1 || err == nil {
		t.Errorf("to a file that is closed: %d, %v", n, err)
	}
	f.Abort()
}
