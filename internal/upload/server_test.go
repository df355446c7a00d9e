package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// deadline is how long anything may take, on a machine that is busy.
const deadline = 60 * time.Second

const (
	bucket = "cores"
	access = "procmem"
	secret = "procmem-secret"
)

// gateway builds the S3 server that tools/s3/go.mod names, unless the build
// cache has it, and returns its path. From nothing it takes two minutes of
// processor time.
var gateway = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "tool", "-modfile=../../tools/s3/go.mod", "-n", "versitygw")
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd.Args, err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
})

// server is an S3 server on loopback, with one bucket.
type server struct {
	*minio.Client
	addr string
	dir  string
	cmd  *exec.Cmd
	log  *os.File
}

// newServer starts a server that keeps its data in dir, and sets the variables
// that lead to it.
func newServer(t *testing.T, dir string) *server {
	t.Helper()
	path, err := gateway()
	if err != nil {
		if os.Getenv("PROCMEM_TEST_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	s := &server{dir: dir, addr: freeAddr(t)}
	if s.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		if text, err := os.ReadFile(s.log.Name()); t.Failed() && err == nil {
			t.Logf("the server's log:\n%s", text[max(0, len(text)-4000):])
		}
		s.log.Close()
	})
	s.cmd = exec.Command(path)
	s.start(t)
	s.Client, err = minio.New(s.addr, &minio.Options{Creds: credentials.NewStaticV4(access, secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	setenv(t, map[string]string{
		"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": "http://" + s.addr,
	})
	return s
}

// setenv clears the variables of AWS but for these.
func setenv(t *testing.T, vars map[string]string) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("NO_PROXY", "127.0.0.1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for name, value := range vars {
		t.Setenv(name, value)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the server, the first time or again, and returns when it
// answers.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(s.cmd.Path, "--port", s.addr, "--access", access, "--secret", secret, "--keep-alive", "posix", s.dir)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "the server", func() bool {
		r, err := http.Get("http://" + s.addr) // it listens for a moment before it begins
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
}

// kill ends the server as a power cut would.
func (s *server) kill() {
	if s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

// await returns when something has come true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

// content returns a reader of n bytes that are the same each time.
func content(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), n) }

// isWhole compares an object with content.
func (s *server) isWhole(t *testing.T, key string, n int64) {
	t.Helper()
	obj, err := s.GetObject(t.Context(), bucket, key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	want, a, b := content(n), make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; {
		m, err := io.ReadFull(obj, a)
		k, _ := io.ReadFull(want, b)
		if !bytes.Equal(a[:m], b[:k]) {
			t.Fatalf("the object differs behind byte %d", off)
		}
		off += int64(m)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// isAbsent checks that neither the object nor a part of it is there.
func (s *server) isAbsent(t *testing.T, key string) {
	t.Helper()
	if info, err := s.StatObject(context.Background(), bucket, key, minio.StatObjectOptions{}); !notFound(err) {
		t.Errorf("the object is there: %d bytes, %v", info.Size, err)
	}
	s.noUploads(t)
}

func (s *server) noUploads(t *testing.T) {
	t.Helper()
	for u := range s.ListIncompleteUploads(context.Background(), bucket, "", true) {
		t.Errorf("an upload is left: %+v", u)
	}
}

// notices are what an upload told.
type notices struct {
	mu    sync.Mutex
	lines []string
}

func (n *notices) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

func (n *notices) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lines
}

func begin(t *testing.T, key string, o Options) *Object {
	t.Helper()
	if o.Notice == nil {
		o.Notice = t.Logf
	}
	obj, err := Create(t.Context(), "s3://"+bucket+"/"+key, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { obj.Abort() })
	return obj
}

// write writes n bytes of content, in pieces that fit nothing.
func write(o *Object, n int64) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{o}, struct{ io.Reader }{content(n)}, make([]byte, 1234567))
	return err
}

// says checks the text of an error.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one that says %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v\ndoes not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "uploadId=") {
		t.Errorf("%v: what is that to anybody", err)
	}
}

var errTest = errors.New("the test has had enough")

var (
	statOptions minio.StatObjectOptions
	putOptions  minio.PutObjectOptions
)

func (o *Object) sentBytes() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent
}
