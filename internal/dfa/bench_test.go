package dfa

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

// mixed returns memory of which one half is text and the other one random, in
// turns of 64 KiB.
var mixed = sync.OnceValue(func() []byte {
	const size, turn = 32 << 20, 64 << 10
	r := rand.New(rand.NewPCG(3, 4))
	words := bytes.Fields([]byte("the request of a user at host has been served from cache in ms and then the connection was closed by peer; " +
		"no value for key \"name\" id=4711 GET /index.html HTTP/1.1 status 200 Content-Type: text/html; charset=utf-8 " +
		"func main() { return nil } if err != nil defer file.Close() deadbeef 0x7f3a42c0 1.25 2026-11-23T22:10:04Z"))
	b := make([]byte, 0, size)
	for len(b) < size {
		for end := len(b) + turn; len(b) < end; {
			b = append(b, words[r.IntN(len(words))]...)
			b = append(b, " \n"[r.IntN(16)/15])
		}
		for end := len(b) + turn; len(b) < end; {
			b = append(b, byte(r.Uint32()))
		}
	}
	return b
})

func BenchmarkFind(b *testing.B) {
	text := mixed()
	for _, x := range []struct{ name, expr string }{
		{"address", `[a-z]+@example\.com`},
		{"hex", `[0-9a-f]{32}`},
		{"password", `(?i)password\s*[:=]\s*\S+`},
		{"ip", `\b\d{1,3}(\.\d{1,3}){3}\b`},
		{"words", `error|warning|fatal`},
		{"key", `-----BEGIN [A-Z ]+-----`},
		{"nothing", `[a-z]\d[a-z]\d[A-Z]*[^a]$`},
		{"matches", `[a-z]+`},
	} {
		b.Run(x.name, func(b *testing.B) {
			re, err := Compile(x.expr, Options{})
			if err != nil {
				b.Fatal(err)
			}
			m := re.Clone()
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for from := 0; ; n++ {
					_, end, ok := m.Find(text, from)
					if !ok {
						break
					}
					from = end
				}
			}
		})
	}
}
