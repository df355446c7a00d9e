package zenc

import (
	"bytes"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestTmp(t *testing.T) {
	d, _ := zstd.NewReader(nil)
	e := &Encoder{}
	for _, f := range []string{"/tmp/zt/text", "/usr/bin/gdb", "/tmp/zt/core", "/tmp/zt/mem"} {
		p, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i := 0; i < len(p); i += MaxFrame {
			q := p[i:min(i+MaxFrame, len(p))]
			out := e.Append(nil, q)
			n += len(out)
			if len(out) > MaxLen(len(q)) {
				t.Fatal("too long")
			}
			got, err := d.DecodeAll(out, nil)
			if err != nil || !bytes.Equal(got, q) {
				t.Fatal(f, i, err)
			}
		}
		t.Log(f, float64(len(p))/float64(n))
	}
}

func bench(b *testing.B, f string, ours bool) {
	p, err := os.ReadFile(f)
	if err != nil {
		b.Fatal(err)
	}
	p = p[:min(len(p), 80<<20)]
	e := &Encoder{}
	k, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(MaxFrame), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true))
	b.SetBytes(int64(len(p)))
	b.ResetTimer()
	var out []byte
	for range b.N {
		for i := 0; i < len(p); i += MaxFrame {
			q := p[i:min(i+MaxFrame, len(p))]
			if ours {
				out = e.Append(out[:0], q)
			} else {
				out = k.EncodeAll(q, out[:0])
			}
		}
	}
}
func BenchmarkText(b *testing.B)  { bench(b, "/tmp/zt/text", true) }
func BenchmarkKText(b *testing.B) { bench(b, "/tmp/zt/text", false) }
func BenchmarkGdb(b *testing.B)   { bench(b, "/usr/bin/gdb", true) }
func BenchmarkKGdb(b *testing.B)  { bench(b, "/usr/bin/gdb", false) }
func BenchmarkCore(b *testing.B)  { bench(b, "/tmp/zt/mem", true) }
func BenchmarkKCore(b *testing.B) { bench(b, "/tmp/zt/mem", false) }
func BenchmarkRnd(b *testing.B)   { bench(b, "/tmp/zt/rnd", true) }
func BenchmarkKRnd(b *testing.B)  { bench(b, "/tmp/zt/rnd", false) }
