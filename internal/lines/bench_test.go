package lines

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

// BenchmarkFirst asks for one address of a file that nothing is known of yet: of the program
// PROCMEM_DEBUG_FILE, or a small one.
func BenchmarkFirst(b *testing.B) {
	path := os.Getenv("PROCMEM_DEBUG_FILE")
	if path == "" {
		path = testproc.Build(b, testproc.GoProg)
	}
	p := program(b, path)
	if err := p.prepare(); err != nil {
		b.Fatal(err)
	}
	v := p.spans[len(p.spans)/2].low
	b.ReportAllocs()
	for b.Loop() {
		q := program(b, path)
		if _, err := q.At(v); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(q.Memory())/1e6, "MB-kept")
	}
}

// TestAll measures answers for addresses everywhere in PROCMEM_DEBUG_FILE.
func TestAll(t *testing.T) {
	path := os.Getenv("PROCMEM_DEBUG_FILE")
	if path == "" {
		t.Skip("PROCMEM_DEBUG_FILE is not set")
	}
	p := program(t, path)
	began := time.Now()
	at := sample(t, p, 1000)
	t.Logf("index of %d units, %d ranges: %v", len(p.units), len(p.spans), time.Since(began))
	slowest := time.Duration(0)
	for _, v := range at {
		began := time.Now()
		if _, err := p.At(v); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d answers: %v, the slowest %v; %d MB of heap, %d kept", len(at), time.Since(began), slowest, m.HeapSys>>20, p.Memory()>>20)
}
