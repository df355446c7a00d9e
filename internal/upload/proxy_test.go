package upload

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// front puts a handler before the server, which may answer in its place, and
// sets the endpoint to it.
func (s *server) front(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	t.Helper()
	next := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.addr})
	next.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, next) })}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	t.Setenv("AWS_ENDPOINT_URL", "http://"+l.Addr().String())
}

func isPart(r *http.Request) bool {
	return r.Method == http.MethodPut && r.URL.Query().Has("partNumber")
}
func isComplete(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// refuse answers with an error, as S3 words it, and closes the connection
// without a look at what else was sent.
func refuse(w http.ResponseWriter, status int, code, text string) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	body := fmt.Sprintf("<Error><Code>%s</Code><Message>%s</Message></Error>", code, text)
	fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, http.StatusText(status), len(body), body)
}

// gate is a TCP proxy that can be closed.
type gate struct {
	waiting atomic.Int32 // pieces that are at the closed gate
	ahead   func()       // called for each piece, if set before open
	mu      sync.Mutex
	shut    bool
	changed *sync.Cond
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
	g.changed.Broadcast()
}

func (g *gate) close() { g.set(true) }
func (g *gate) open()  { g.set(false) }

func (g *gate) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting.Add(1)
	for g.shut {
		g.changed.Wait()
	}
	g.waiting.Add(-1)
	if g.ahead != nil {
		g.ahead()
	}
}

// slow puts a gate before the server, and sets the endpoint to it.
func (s *server) slow(t *testing.T) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	g.changed = sync.NewCond(&g.mu)
	t.Cleanup(func() { l.Close(); g.open() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", s.addr)
			if err != nil {
				in.Close()
				continue
			}
			go func() {
				defer in.Close()
				io.Copy(in, out)
			}()
			go func() {
				defer out.Close()
				for buf := make([]byte, 64<<10); ; {
					n, err := in.Read(buf)
					if err != nil {
						return
					}
					g.pass()
					if _, err := out.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Setenv("AWS_ENDPOINT_URL", "http://"+l.Addr().String())
	return g
}

// discard is an answer that nobody gets.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
