package packed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// zstdTool runs the zstd command.
func zstdTool(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("zstd")
	if err != nil && os.Getenv("PROCMEM_TEST_ALL") != "1" {
		t.Skip("zstd is not installed")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("zstd %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// random, text and sample are what is in the memory of processes.
func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	rand.NewChaCha8(key).Read(b)
	return b
}

func text(n int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+64)
	for len(b) < n {
		b = fmt.Appendf(b, "%d thread=%s state=%x\n", rnd.IntN(1000), []string{"main", "worker", "gc", "io"}[rnd.IntN(4)], rnd.Uint32()>>12)
	}
	return b[:n]
}

// sample is frames of text, random bytes, zeros, and all of them.
func sample(n int) []byte {
	b := make([]byte, 0, n+frameSize)
	for i := uint64(0); len(b) < n; i++ {
		switch i % 5 {
		case 0:
			b = append(b, text(frameSize, i)...)
		case 1:
			b = append(b, random(frameSize, i)...)
		case 2, 3:
			b = append(b, make([]byte, frameSize)...)
		case 4:
			b = append(b, text(pageSize, i)...)
			b = append(b, make([]byte, frameSize/2)...)
			b = append(b, random(frameSize/2-pageSize, i)...)
		}
	}
	return b[:n]
}

// pack compresses data, written in pieces of the given size.
func pack(t testing.TB, data []byte, piece int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, Options{Workers: 2})
	defer w.Abort()
	for p := data; len(p) > 0; p = p[min(piece, len(p)):] {
		if n, err := w.Write(p[:min(piece, len(p))]); err != nil || n != min(piece, len(p)) {
			t.Fatal(n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Written() != int64(out.Len()) {
		t.Errorf("Written() = %d of %d bytes", w.Written(), out.Len())
	}
	return out.Bytes()
}

func newReader(t testing.TB, b []byte) *Reader {
	t.Helper()
	r, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// unpacked reads everything.
func unpacked(t testing.TB, b []byte) []byte {
	t.Helper()
	r := newReader(t, b)
	data, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()+1))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const pageSize = 4096

var sizes = []int{0, 1, 255, 256, 1024, pageSize + 1, frameSize - 1, frameSize, frameSize + 1, 5*frameSize + 4711, 16 * frameSize}

func TestRoundTrip(t *testing.T) {
	for _, n := range sizes {
		for _, piece := range []int{997, pageSize, 3 << 20} {
			want := sample(n)
			if got := unpacked(t, pack(t, want, piece)); !bytes.Equal(got, want) {
				t.Errorf("%d bytes in pieces of %d differ", n, piece)
			}
		}
	}
}

// The command zstd finds nothing to complain about, and the same data.
func TestZstdCommand(t *testing.T) {
	for _, n := range sizes {
		want := sample(n)
		path := filepath.Join(t.TempDir(), "x.zst")
		if err := os.WriteFile(path, pack(t, want, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		zstdTool(t, "-q", "-t", path)
		zstdTool(t, "-q", "-d", path, "-o", path+".out")
		if got, err := os.ReadFile(path + ".out"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %v, equal: %v", n, err, bytes.Equal(got, want))
		}
		if n == 0 {
			continue // zstd -l refuses a file without data
		}
		frames := (n + frameSize - 1) / frameSize
		list := zstdTool(t, "-l", "-v", path)
		for _, want := range []string{fmt.Sprintf("# Zstandard Frames: %d\n", frames), "# Skippable Frames: 1\n", fmt.Sprintf("(%d B)", n), "Check: XXH64"} {
			if !strings.Contains(list, want) {
				t.Errorf("%d bytes: no %q in\n%s", n, want, list)
			}
		}
	}
}

func TestZeroFrame(t *testing.T) {
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	got, err := dec.DecodeAll([]byte(zeroFrame), nil)
	if err != nil || !bytes.Equal(got, make([]byte, frameSize)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	var h zstd.Header
	if err := h.Decode([]byte(zeroFrame)); err != nil || !h.HasCheckSum || h.FrameContentSize != frameSize {
		t.Errorf("header %+v, %v", h, err)
	}
	// However zeros come, they are the same frame.
	const n = 3000
	var out bytes.Buffer
	w := NewWriter(&out, Options{Workers: 2})
	for range 10 {
		w.Write(make([]byte, frameSize))
	}
	if err := w.Zeros((n - 20) * frameSize); err != nil {
		t.Fatal(err)
	}
	for range 10 * frameSize / pageSize {
		w.Zeros(pageSize)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(out.Bytes(), bytes.Repeat([]byte(zeroFrame), n)) || newReader(t, out.Bytes()).Size() != n*frameSize {
		t.Error("not the frames that were expected")
	}
}

func TestZerosBetweenWrites(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		var want, out bytes.Buffer
		w := NewWriter(&out, Options{Workers: 2})
		for range 30 {
			n := rnd.IntN([]int{10, pageSize, 3 * frameSize}[rnd.IntN(3)])
			if rnd.IntN(2) == 0 {
				want.Write(make([]byte, n))
				if err := w.Zeros(int64(n)); err != nil {
					t.Fatal(err)
				}
				continue
			}
			p := text(n, uint64(n))
			want.Write(p)
			w.Write(p)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(unpacked(t, out.Bytes()), want.Bytes()) {
			t.Fatal("differs")
		}
	}
}

func TestZerosPastTheFormat(t *testing.T) {
	w := NewWriter(io.Discard, Options{Workers: 1})
	defer w.Abort()
	w.Write([]byte("x"))
	if err := w.Zeros(maxFrames * frameSize); err != errTooLong {
		t.Error(err)
	}
	if err := w.Close(); err != errTooLong {
		t.Errorf("Close: %v; want %v", err, errTooLong)
	}
}

// full is a disk with so much room.
type full struct{ room int }

var errFull = errors.New("no room")

func (d *full) Write(p []byte) (int, error) {
	n := min(len(p), d.room)
	if d.room -= n; n < len(p) {
		return n, errFull
	}
	return n, nil
}

// The first error is what all calls return from then on, wherever it comes.
func TestWriteErrorSticks(t *testing.T) {
	whole := len(pack(t, sample(8*frameSize), frameSize))
	for room := 0; room < whole; room += whole / 20 {
		w := NewWriter(&full{room}, Options{Workers: 2})
		failed := false
		for p := sample(8 * frameSize); len(p) > 0; p = p[pageSize:] {
			_, err := w.Write(p[:pageSize])
			if err == nil && failed || err != nil && err != errFull {
				t.Fatalf("Write after an error (%v): %v", failed, err)
			}
			failed = failed || err != nil
		}
		for range 2 {
			if err := w.Close(); err != errFull {
				t.Errorf("room for %d of %d: Close: %v", room, whole, err)
			}
		}
		if _, err := w.Write(nil); err != errFull {
			t.Errorf("Write after Close: %v", err)
		}
		if err := w.Zeros(1 << 40); err != errFull {
			t.Errorf("Zeros after Close: %v", err)
		}
		if w.Written() != int64(room) {
			t.Errorf("Written() = %d; want %d", w.Written(), room)
		}
	}
	w := NewWriter(&full{100}, Options{})
	w.Zeros(1 << 44) // must not go on for ever
	if err := w.Close(); err != errFull {
		t.Error(err)
	}
}

// slow is a destination that takes nothing until it is let.
type slow struct {
	gate chan struct{}
	n    atomic.Int64
}

func (s *slow) Write(p []byte) (int, error) {
	<-s.gate
	s.n.Add(int64(len(p)))
	return len(p), nil
}

// What does not fit the destination is not heaped up in memory, and Abort ends
// all there is.
func TestBackPressureAndAbort(t *testing.T) {
	before := runtime.NumGoroutine()
	dst := &slow{gate: make(chan struct{})}
	w := NewWriter(dst, Options{Workers: 2})
	var taken atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p := random(frameSize, 1)
		for range 100 {
			if _, err := w.Write(p); err != nil {
				t.Error(err)
			}
			taken.Add(1)
		}
	}()
	time.Sleep(200 * time.Millisecond)
	if n := taken.Load(); n > 6*batchSize/frameSize {
		t.Errorf("%d frames are taken", n)
	}
	close(dst.gate)
	<-ended
	w.Abort()
	at := dst.n.Load()
	w.Abort()
	if _, err := w.Write([]byte("x")); err != errEnded {
		t.Errorf("Write after Abort: %v", err)
	}
	if err := w.Close(); err != errEnded {
		t.Errorf("Close after Abort: %v", err)
	}
	if dst.n.Load() != at || at != w.Written() {
		t.Errorf("%d bytes, then %d, Written %d", at, dst.n.Load(), w.Written())
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines; %d before", n, before)
	}
}

func TestThread(t *testing.T) {
	var mu sync.Mutex
	calls := 0
	var out bytes.Buffer
	w := NewWriter(&out, Options{Workers: 3, Thread: func(run func()) {
		mu.Lock()
		calls++
		mu.Unlock()
		done := make(chan struct{})
		go func() { defer close(done); run() }()
		<-done
	}})
	want := sample(10*frameSize + 1)
	w.Write(want)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if calls != 3 || !bytes.Equal(unpacked(t, out.Bytes()), want) {
		t.Errorf("%d batches on threads", calls)
	}
}

// Memory is bounded: buffers and encoders are made once, and nothing for each
// frame.
func TestWriterAllocates(t *testing.T) {
	data := sample(20 * frameSize)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w := NewWriter(io.Discard, Options{Workers: 2})
	defer w.Abort()
	const frames = 600
	for range frames * frameSize / len(data) {
		w.Write(data)
	}
	w.Zeros(frames * frameSize)
	runtime.ReadMemStats(&after)
	bytes, pieces := after.TotalAlloc-before.TotalAlloc, after.Mallocs-before.Mallocs
	t.Logf("%d bytes in %d pieces for %d frames", bytes, pieces, frames)
	if bytes > 16<<20 || pieces > frames/2 {
		t.Errorf("%d bytes in %d pieces for %d frames", bytes, pieces, frames)
	}
}

func BenchmarkWriter(b *testing.B) {
	const n = 8 << 20
	for _, c := range []struct {
		name string
		data []byte
	}{{"text", text(n, 1)}, {"random", random(n, 1)}, {"zero", make([]byte, n)}, {"mix", sample(n)}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(n)
			w := NewWriter(io.Discard, Options{Workers: 2})
			var plain int64
			for b.Loop() {
				w.Write(c.data)
				plain += n
			}
			w.Close()
			b.ReportMetric(float64(plain)/float64(w.Written()), "ratio")
		})
	}
	b.Run("Zeros", func(b *testing.B) {
		b.SetBytes(n)
		w := NewWriter(io.Discard, Options{Workers: 2})
		for b.Loop() {
			w.Zeros(n)
		}
		w.Close()
	})
}
