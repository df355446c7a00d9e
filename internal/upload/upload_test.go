package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
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
		"bucket":       {url: "s3://absent/core", want: []string{"create s3://absent/core", "NoSuchBucket"}},
		"key":          {env: map[string]string{"AWS_ACCESS_KEY_ID": "wrong"}, want: []string{"XAdminUserNotFound"}},
		"secret":       {env: map[string]string{"AWS_SECRET_ACCESS_KEY": "wrong"}, want: []string{"SignatureDoesNotMatch"}},
		"half":         {env: map[string]string{"AWS_SECRET_ACCESS_KEY": ""}, want: []string{"AWS_SECRET_ACCESS_KEY is not"}},
		"no scheme":    {env: map[string]string{"AWS_ENDPOINT_URL": none}, want: []string{"AWS_ENDPOINT_URL=" + none, "does not begin with http:// or https://"}},
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

// The bucket is in another region than the environment says.
func TestElsewhere(t *testing.T) {
	s := newServer(t, t.TempDir())
	s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/s3/") {
			w.Header().Set("X-Amz-Bucket-Region", "us-east-1")
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		next.ServeHTTP(w, r)
	})
	t.Setenv("AWS_REGION", "eu-north-1")
	o := begin(t, "core", Options{})
	write(o, 100)
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	s.isWhole(t, "core", 100)
}

// A part is damaged on the way. The server sees it, and it is sent again.
func TestDamage(t *testing.T) {
	s := newServer(t, t.TempDir())
	var damaged atomic.Bool
	s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if isPart(r) && damaged.CompareAndSwap(false, true) {
			b, _ := io.ReadAll(r.Body)
			b[len(b)/2] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(b))
		}
		next.ServeHTTP(w, r)
	})
	var told notices
	o := begin(t, "core", Options{Notice: told.add})
	if err := write(o, 10<<20); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	s.isWhole(t, "core", 10<<20)
	if len(told.all()) != 2 {
		t.Errorf("told %q", told.all())
	}
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
	got := told.all()
	if len(got) < 2 || !strings.Contains(got[0], "trying again for 2m") || !strings.Contains(got[len(got)-1], "is back") {
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

// A server that closes the connection while we are sending is not heard. It is
// asked first the next time.
func TestRefusedUnheard(t *testing.T) {
	s := newServer(t, t.TempDir())
	s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case isPart(r) && r.Header.Get("Expect") != "":
			refuse(w, http.StatusForbidden, "AccessDenied", "There is no more.")
		case isPart(r):
			panic(http.ErrAbortHandler)
		default:
			next.ServeHTTP(w, r)
		}
	})
	o := begin(t, "core", Options{Patience: deadline})
	says(t, write(o, 1<<40), "AccessDenied: There is no more.")
	if err := o.Abort(); err != nil {
		t.Error(err)
	}
	s.isAbsent(t, "core")
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
	gate.open()
	says(t, o.Commit(), errTest.Error())
	s.isAbsent(t, "core")
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
