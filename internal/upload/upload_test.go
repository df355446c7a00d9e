package upload

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestUpload(t *testing.T) {
	s := newServer(t, t.TempDir())
	for _, c := range []struct {
		key     string
		n, size int64
	}{
		{"empty", 0, 0},
		{"one", 1, 0},
		{"exact", 2 * minPart, 2 * minPart},
		{"dir/odd", 100<<20 + 4321, 120 << 20},
		{"a b+c%20&é", 12345, 0},
	} {
		o := begin(t, c.key, Options{Size: c.size})
		if err := write(o, c.n); err != nil {
			t.Fatal(err)
		}
		if info, err := s.StatObject(t.Context(), bucket, c.key, statOptions); !notFound(err) {
			t.Errorf("%s: there before Commit: %v, %v", c.key, info, err)
		}
		if err := o.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := o.Abort(); err != nil { // as a deferred one would
			t.Error(err)
		}
		if o.Written() != c.n {
			t.Errorf("%s: %d bytes written, want %d", c.key, o.Written(), c.n)
		}
		s.isWhole(t, c.key, c.n)
		s.noUploads(t)
	}
}

func TestForce(t *testing.T) {
	s := newServer(t, t.TempDir())
	put := func(n int64, o Options) error {
		obj, err := Create(t.Context(), "s3://cores/core", o)
		if err != nil {
			return err
		}
		defer obj.Abort()
		if err := write(obj, n); err != nil {
			return err
		}
		return obj.Commit()
	}
	if err := put(100, Options{}); err != nil {
		t.Fatal(err)
	}
	err := put(200, Options{})
	if says(t, err, "create s3://cores/core", "--force"); !errors.Is(err, os.ErrExist) {
		t.Errorf("%v is not %v", err, os.ErrExist)
	}
	s.isWhole(t, "core", 100)
	s.noUploads(t)
	if err := put(300, Options{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.isWhole(t, "core", 300)

	o := begin(t, "core", Options{Force: true})
	write(o, 400)
	o.cancel(errTest)
	says(t, o.Commit(), errTest.Error(), "as it was")
	s.isWhole(t, "core", 300)
}

// Two begin the same object: the second to end does not replace the first.
func TestMadeMeanwhile(t *testing.T) {
	for _, knows := range []bool{true, false} {
		s := newServer(t, t.TempDir())
		asked := false
		s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if !knows && r.Header.Get("If-None-Match") != "" {
				asked = true
				refuse(w, http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented.")
				return
			}
			next.ServeHTTP(w, r)
		})
		a, b := begin(t, "core", Options{}), begin(t, "core", Options{})
		write(a, 100)
		write(b, 200)
		if err := a.Commit(); err != nil {
			t.Fatal(err)
		}
		err := b.Commit()
		if says(t, err, "finish s3://cores/core", "--force"); !errors.Is(err, os.ErrExist) {
			t.Errorf("%v is not %v", err, os.ErrExist)
		}
		if asked == knows {
			t.Error("If-None-Match was not sent")
		}
		s.isWhole(t, "core", 100)
		s.noUploads(t)
	}
}

func TestRefusedInTheBeginning(t *testing.T) {
	s := newServer(t, t.TempDir())
	none := freeAddr(t)
	for name, c := range map[string]struct {
		url  string
		env  map[string]string
		want []string
	}{
		"bucket":       {url: "s3://absent/core", want: []string{"create s3://absent/core", `no bucket "absent"`}},
		"key":          {env: map[string]string{"AWS_ACCESS_KEY_ID": "wrong"}, want: []string{"InvalidAccessKeyId"}},
		"secret":       {env: map[string]string{"AWS_SECRET_ACCESS_KEY": "wrong"}, want: []string{"SignatureDoesNotMatch"}},
		"half":         {env: map[string]string{"AWS_SECRET_ACCESS_KEY": ""}, want: []string{"AWS_SECRET_ACCESS_KEY is not"}},
		"no server":    {env: map[string]string{"AWS_ENDPOINT_URL": "http://" + none}, want: []string{none, "connection refused"}},
		"no TLS":       {env: map[string]string{"AWS_ENDPOINT_URL": "https://" + s.addr}, want: []string{"HTTP response to HTTPS client"}},
		"endpoint":     {env: map[string]string{"AWS_ENDPOINT_URL_S3": "localhost:9000"}, want: []string{"AWS_ENDPOINT_URL_S3=", "http://"}},
		"url":          {url: "s3://cores", want: []string{"s3://cores", "no name"}},
		"no such CA":   {env: map[string]string{"AWS_ENDPOINT_URL": "https://" + s.addr, "AWS_CA_BUNDLE": "/nonexistent"}, want: []string{"AWS_CA_BUNDLE"}},
		"no profile":   {env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "x"}, want: []string{`profile "x"`}},
		"nothing set":  {env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, want: []string{"no credentials: set AWS_ACCESS_KEY_ID"}},
		"no role file": {env: map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent"}, want: []string{"role", "/nonexistent"}},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			if c.url == "" {
				c.url = "s3://cores/core"
			}
			_, err := Create(t.Context(), c.url, Options{Patience: time.Millisecond})
			says(t, err, c.want...)
		})
	}
	s.isAbsent(t, "core")
}

// Who may write and not look can upload, and is told what cannot be known.
func TestWriteOnly(t *testing.T) {
	s := newServer(t, t.TempDir())
	s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
	var told notices
	for _, want := range []int{2, 3} {
		o := begin(t, "core", Options{Notice: told.add})
		write(o, 100)
		err := o.Commit()
		if want == 3 {
			says(t, err, "--force")
		} else if err != nil {
			t.Fatal(err)
		}
		if got := told.all(); len(got) != want {
			t.Errorf("%q", got)
		}
	}
	s.isWhole(t, "core", 100)
	s.noUploads(t)
}

// The server is killed in the middle, and comes back.
func TestServerRestarts(t *testing.T) {
	s := newServer(t, t.TempDir())
	var told notices
	o := begin(t, "core", Options{Notice: told.add})
	const n = 60<<20 + 1
	r := content(n)
	io.CopyN(o, r, 20<<20)
	await(t, "two parts", func() bool { return o.sentBytes() == 16<<20 })
	s.kill()
	wrote := make(chan error)
	go func() {
		_, err := io.Copy(o, r)
		wrote <- err
	}()
	await(t, "a notice", func() bool { return len(told.all()) == 1 })
	select {
	case err := <-wrote:
		t.Fatalf("Write came back without a server: %v", err)
	default:
	}
	s.start(t)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	s.isWhole(t, "core", n)
	s.noUploads(t)
	if got := told.all(); len(got) != 2 || !strings.Contains(got[0], "connection refused") && !strings.Contains(got[0], "closed") && !strings.Contains(got[0], "reset") ||
		!strings.Contains(got[1], "back") {
		t.Errorf("told %q", got)
	}
}

func TestServerNeverComesBack(t *testing.T) {
	s := newServer(t, t.TempDir())
	o := begin(t, "core", Options{Patience: 300 * time.Millisecond})
	if err := write(o, minPart); err != nil {
		t.Fatal(err)
	}
	await(t, "a part", func() bool { return o.sentBytes() == minPart })
	s.kill()
	says(t, write(o, 100<<20), "upload s3://cores/core: part ", "tried again for 300ms", "connection refused",
		"(8388608 bytes had been sent; the object does not exist)")
	says(t, o.Abort(), "abort upload of s3://cores/core", "connection refused", "lifecycle", "aws s3api abort-multipart-upload", o.id)
	s.start(t)
	if _, err := s.StatObject(t.Context(), bucket, "core", statOptions); !notFound(err) {
		t.Error(err)
	}
}

// The server makes the object, and dies before it says so.
func TestAnswerIsLost(t *testing.T) {
	for _, status := range []int{0, http.StatusGatewayTimeout} {
		s := newServer(t, t.TempDir())
		var asked atomic.Int32
		s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if isComplete(r) {
				switch asked.Add(1) {
				case 1:
					next.ServeHTTP(discard{http.Header{}}, r)
					if status == 0 {
						panic(http.ErrAbortHandler)
					}
					w.WriteHeader(status)
				default: // as S3 does, after some time
					refuse(w, http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist.")
				}
				return
			}
			next.ServeHTTP(w, r)
		})
		o := begin(t, "core", Options{})
		write(o, 1000)
		if err := o.Commit(); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		if asked.Load() != 2 {
			t.Errorf("asked %d times", asked.Load())
		}
		s.isWhole(t, "core", 1000)
	}
}

// The upload is gone, and what has the name is not ours.
func TestUploadIsGone(t *testing.T) {
	s := newServer(t, t.TempDir())
	lost := false
	s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case isComplete(r) && lost:
			lost = false
			w.WriteHeader(http.StatusBadGateway)
		case isComplete(r):
			refuse(w, http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist.")
		default:
			next.ServeHTTP(w, r)
		}
	})
	o := begin(t, "core", Options{})
	write(o, 1000)
	says(t, o.Commit(), "finish s3://cores/core: NoSuchUpload", "1000 bytes had been sent; the object does not exist")
	s.noUploads(t)

	lost = true
	o = begin(t, "core", Options{Patience: 200 * time.Millisecond})
	write(o, 1000)
	says(t, o.Commit(), "not said whether it made the object")
	s.isAbsent(t, "core")

	lost = true
	o = begin(t, "core", Options{})
	write(o, 1000)
	if _, err := s.PutObject(t.Context(), bucket, "core", content(1000), 1000, putOptions); err != nil {
		t.Fatal(err)
	}
	says(t, o.Commit(), "not said whether it made the object", "NoSuchUpload")
}

// The server says that all is well, and has lost a part of it.
func TestWrongObject(t *testing.T) {
	s := newServer(t, t.TempDir())
	s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(w, r)
		if isComplete(r) {
			os.Truncate(s.dir+"/"+bucket+"/core", 999)
		}
	})
	o := begin(t, "core", Options{})
	write(o, 1000)
	says(t, o.Commit(), "wrong object", "has been removed", "999 bytes", "1000 were written")
	s.isAbsent(t, "core")
}

// What will not change is not tried again, and is said as the server says it,
// also by one that does not read what it refuses.
func TestRefusedInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
	}{
		{http.StatusInsufficientStorage, "XMinioStorageFull"},
		{http.StatusBadRequest, "EntityTooLarge"},
		{http.StatusForbidden, "AccessDenied"},
		{http.StatusForbidden, "QuotaExceeded"},
		{http.StatusNotFound, "NoSuchUpload"},
	} {
		s := newServer(t, t.TempDir())
		var parts atomic.Int32
		s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if isPart(r) && parts.Add(1) > 1 {
				refuse(w, c.status, c.code, "There is no more.")
				return
			}
			next.ServeHTTP(w, r)
		})
		o := begin(t, "core", Options{})
		err := write(o, 1<<40)
		if err == nil || o.Written() > 100<<20 {
			t.Fatalf("%d bytes written, %v", o.Written(), err)
		}
		says(t, err, c.code+": There is no more.", "the object does not exist")
		if err := o.Abort(); err != nil {
			t.Error(err)
		}
		s.isAbsent(t, "core")
	}
}

// The disk of the server is full.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("procmem-test", dir, "tmpfs", 0, "size=20m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	s := newServer(t, dir)
	o := begin(t, "core", Options{})
	start := time.Now()
	err := write(o, 1<<40)
	says(t, err, "part ", "the object does not exist")
	t.Logf("after %v: %v", time.Since(start), err)
	if err := o.Abort(); err != nil {
		t.Error(err)
	}
	s.isAbsent(t, "core")
}

// A server that takes nothing holds the writer up, with three parts in
// memory, and one that takes it slowly gets all of it, in the same memory.
func TestSlowServer(t *testing.T) {
	s := newServer(t, t.TempDir())
	gate := s.slow(t)
	o := begin(t, "core", Options{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	gate.close()
	const n = 90<<20 + 7
	wrote := make(chan error)
	go func() { wrote <- write(o, n) }()
	await(t, "three parts", func() bool { return o.Written() == 3*minPart })
	await(t, "two connections", func() bool { return gate.waiting.Load() >= 2 })
	select {
	case err := <-wrote:
		t.Fatalf("Write came back: %v", err)
	default:
	}
	if o.Written() != 3*minPart || len(o.slots) != atOnce {
		t.Errorf("%d bytes are in memory, %d parts are on their way", o.Written(), len(o.slots))
	}
	gate.ahead = func() {
		if inMemory := o.Written() - o.sentBytes(); inMemory > 3*minPart {
			t.Errorf("%d bytes are in memory", inMemory)
		}
	}
	gate.open()
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	t.Logf("%d MiB were allocated", (after.TotalAlloc-before.TotalAlloc)>>20)
	if got := after.TotalAlloc - before.TotalAlloc; got > 60<<20 { // with what this test itself does
		t.Errorf("%d bytes were allocated", got)
	}
	s.isWhole(t, "core", n)
}

// A server that is there and does not move is one that is away.
func TestStalledServer(t *testing.T) {
	s := newServer(t, t.TempDir())
	gate := s.slow(t)
	var told notices
	o := begin(t, "core", Options{Notice: told.add})
	o.stall = 100 * time.Millisecond
	gate.close()
	if err := write(o, minPart); err != nil {
		t.Fatal(err)
	}
	await(t, "a notice", func() bool { return len(told.all()) == 1 })
	o.cancel(errTest)
	says(t, o.Commit(), errTest.Error())
	if !strings.Contains(told.all()[0], errStalled.Error()) {
		t.Errorf("told %q", told.all())
	}
}

func TestCancel(t *testing.T) {
	s := newServer(t, t.TempDir())
	gate := s.slow(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	o, err := Create(ctx, "s3://cores/core", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(o, minPart); err != nil {
		t.Fatal(err)
	}
	await(t, "a part", func() bool { return o.sentBytes() == minPart })
	gate.close()
	wrote := make(chan error)
	go func() { wrote <- write(o, 100<<20) }()
	await(t, "three parts", func() bool { return o.Written() == 4*minPart })
	start := time.Now()
	cancel(errTest)
	err = <-wrote
	if took := time.Since(start); took > deadline/10 {
		t.Errorf("Write took %v to come back", took)
	}
	if says(t, err, "8388608 bytes had been sent"); !errors.Is(err, errTest) {
		t.Error(err)
	}
	gate.open()
	if err := o.Abort(); err != nil {
		t.Error(err)
	}
	if _, err := o.Write([]byte{1}); err == nil {
		t.Error("Write after Abort")
	}
	says(t, o.Commit(), "ended")
	s.isAbsent(t, "core")
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
