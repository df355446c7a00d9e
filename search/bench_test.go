package search

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/pageset"
	"github.com/procmem/procmem/internal/sys"
)

// own is memory of this process, read as that of another one is.
type own struct{ b []byte }

func (m own) start() procmem.Addr { return procmem.Addr(uintptr(unsafe.Pointer(&m.b[0]))) }

func (m own) Mappings() ([]procmem.Mapping, error) {
	return []procmem.Mapping{{Range: procmem.Range{Start: m.start(), End: m.start() + procmem.Addr(len(m.b))}}}, nil
}

func (m own) ReadAt(p []byte, a procmem.Addr) (int, error) {
	return sys.ReadProcess(os.Getpid(), p, uint64(a))
}

// words are what half of the memory of benchmarks is made of.
var words = []string{"the", "error", "request", "of", "in", "GET", "index.html", "session", "to", "and", "2024-05-06",
	"value", "is", "Connection:", "keep-alive", "user", "with", "x86_64", "memory", "at", "\n", "{", "}", "warning:", "alpha@example.org"}

// halfText returns a GiB, half of it text and half random, in turns of 1 MiB.
var halfText = sync.OnceValue(func() own {
	b := pageset.Buffer(1 << 30)
	random := rand.NewChaCha8([32]byte{1})
	pick := rand.New(rand.NewPCG(1, 2))
	for at := 0; at < len(b); at += 2 << 20 {
		for text := b[at : at+1<<20]; len(text) > 0; {
			text = text[copy(text, words[pick.IntN(len(words))]):]
			text = text[copy(text, " "):]
		}
		_, _ = random.Read(b[at+1<<20 : at+2<<20])
	}
	return own{b}
})

// processorTime has the benchmark report how much is done in a second of processor time,
// of which others on the machine take nothing.
func processorTime(b *testing.B, size int) func() {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() {
		b.ReportMetric(float64(b.N)*float64(size)/1e9/(used()-before).Seconds(), "GB/cpu-s")
		b.ReportMetric(0, "ns/op")
	}
}

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

func thousand(n int) (patterns []Pattern) {
	pick := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		b := make([]byte, n+pick.IntN(n))
		for i := range b {
			b[i] = 'a' + byte(pick.IntN(26))
		}
		patterns = append(patterns, must(Literal(b, false)))
	}
	return patterns
}

func BenchmarkSearch(b *testing.B) {
	mem := halfText()
	for _, size := range []int{256 << 10, 2 << 20} {
		b.Run(fmt.Sprintf("ceiling-%dK", size>>10), func(b *testing.B) {
			defer processorTime(b, len(mem.b))()
			for b.Loop() {
				var at atomic.Int64
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() {
						buf := pageset.Buffer(size)
						for o := at.Add(int64(size)) - int64(size); o < int64(len(mem.b)); o = at.Add(int64(size)) - int64(size) {
							must(mem.ReadAt(buf, mem.start()+procmem.Addr(o)))
						}
					})
				}
				wg.Wait()
			}
		})
	}
	one := func(p Pattern, err error) []Pattern { return []Pattern{must(p, err)} }
	for _, c := range []struct {
		name     string
		patterns []Pattern
	}{
		{"literal", one(Literal([]byte("no such needle"), false))},
		{"literal-fold", one(Literal([]byte("no such needle"), true))},
		{"u32", one(ParseValue(U32, "3735928559", ValueOptions{}))},
		{"u32-any", one(ParseValue(U32, "3735928559", ValueOptions{Align: 1}))},
		{"u64-range", one(ParseValue(U64, "3735928559..3735929559", ValueOptions{}))},
		{"f32", one(ParseValue(F32, "3.14159", ValueOptions{}))},
		{"regexp", one(ParseRegexp(`[a-z]+@example\.com`, false))},
		{"regexp-class", one(ParseRegexp(`[0-9a-f]{32}`, false))},
		{"1000-long", thousand(8)},
		{"1000-short", thousand(4)},
		{"1000-mixed", append(thousand(4), thousand(8)...)},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := must(New(c.patterns, Options{}))
			defer processorTime(b, len(mem.b))()
			n := 0
			for b.Loop() {
				for _, err := range s.Matches(b.Context(), mem) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			b.ReportMetric(float64(n)/float64(b.N), "matches")
		})
	}
}

// What finders do in the cache of a processor.
func BenchmarkFinders(b *testing.B) {
	mem := halfText().b
	for _, c := range []struct {
		name     string
		patterns []Pattern
	}{
		{"literal", []Pattern{must(Literal([]byte("no such needle"), false))}},
		{"fold", []Pattern{must(Literal([]byte("no such needle"), true))}},
		{"u32", []Pattern{must(ParseValue(U32, "3735928559", ValueOptions{}))}},
		{"u64", []Pattern{must(ParseValue(U64, "3735928559..3735929559", ValueOptions{}))}},
		{"1000-long", thousand(8)},
		{"1000-short", thousand(4)},
	} {
		s := must(New(c.patterns, Options{}))
		for _, kind := range []string{"text", "random"} {
			p := mem[:blockSize]
			if kind == "random" {
				p = mem[1<<20:][:blockSize]
			}
			b.Run(c.name+"-"+kind, func(b *testing.B) {
				defer processorTime(b, len(p))()
				for b.Loop() {
					for at := 0; at < len(p); at += windowSize {
						for _, f := range s.finders {
							f.find(&window{b: p, from: at, to: at + windowSize})
						}
					}
				}
			})
		}
	}
	strings := newRuns(StringsOptions{8, ASCII})
	for _, kind := range []string{"text", "random"} {
		p := mem[:blockSize]
		if kind == "random" {
			p = mem[1<<20:][:blockSize]
		}
		b.Run("strings-"+kind, func(b *testing.B) {
			defer processorTime(b, len(p))()
			for b.Loop() {
				for from, ok := 0, true; ok; {
					_, from, ok = strings.seek(p, from, true)
				}
			}
		})
	}
}
