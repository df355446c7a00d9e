package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/procmem/procmem/internal/testproc"
)

const (
	storeUser   = "procmem"
	storeSecret = "procmem-secret"
	storeBucket = "cores"
)

// store is an S3 server on loopback, with one bucket.
type store struct {
	*minio.Client
	addr string
	cmd  *exec.Cmd
}

// startStore starts the server that tools/s3/go.mod names, which is built
// unless the build cache has it, and sets the variables that lead to it.
func startStore(t *testing.T) *store {
	t.Helper()
	build := exec.Command("go", "tool", "-modfile=../../tools/s3/go.mod", "-n", "versitygw")
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	path, err := build.Output()
	if err != nil {
		if os.Getenv("PROCMEM_TEST_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &store{addr: l.Addr().String()}
	l.Close()
	s.cmd = exec.Command(strings.TrimSpace(string(path)), "--port", s.addr, "--access", storeUser, "--secret", storeSecret, "posix", t.TempDir())
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	testproc.Until(t, "the server", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	s.Client, err = minio.New(s.addr, &minio.Options{Creds: credentials.NewStaticV4(storeUser, storeSecret, "")})
	if err == nil {
		err = s.MakeBucket(t.Context(), storeBucket, minio.MakeBucketOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("NO_PROXY", "127.0.0.1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_ACCESS_KEY_ID", storeUser)
	t.Setenv("AWS_SECRET_ACCESS_KEY", storeSecret)
	t.Setenv("AWS_ENDPOINT_URL", "http://"+s.addr)
	return s
}

func (s *store) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// front puts a handler before the server and sets the endpoint to it.
func (s *store) front(t *testing.T, handle func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
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

// isPart reports whether a request brings the part of that number.
func isPart(r *http.Request, n int) bool {
	return r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == strconv.Itoa(n)
}

// get downloads an object.
func (s *store) get(t *testing.T, key string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), filepath.Base(key))
	if err := s.FGetObject(t.Context(), storeBucket, key, path, minio.GetObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

// has checks which objects there are, and that no upload has been left.
func (s *store) has(t *testing.T, keys ...string) {
	t.Helper()
	var got []string
	for o := range s.ListObjects(t.Context(), storeBucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		got = append(got, o.Key)
	}
	if !slices.Equal(got, keys) {
		t.Errorf("there are the objects %q; want %q", got, keys)
	}
	for u := range s.ListIncompleteUploads(t.Context(), storeBucket, "", true) {
		t.Errorf("an upload is left: %+v", u)
	}
}

// switches tells how often threads that sleep were woken, or stopped.
func switches(t *testing.T, p *testproc.Proc) string {
	t.Helper()
	var out strings.Builder
	for _, tid := range p.TIDs() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", p.PID(), tid))
		if err != nil {
			t.Fatal(err)
		}
		_, counts, _ := strings.Cut(string(b), "\nvoluntary_ctxt_switches")
		fmt.Fprintln(&out, tid, counts)
	}
	return out.String()
}

// A core goes to an object store as it is taken, and is whole there.
func TestCoreToStore(t *testing.T) {
	s := startStore(t)
	p := testproc.Start(t, testproc.Many, "fill", "12M")
	p.WaitBlocked(t, len(p.TIDs()))
	pid := strconv.Itoa(p.PID())
	const prefix = "s3://" + storeBucket + "/dir/core"
	key := "dir/core." + pid

	out := ok(t, "core", "-o", prefix, pid)
	if !strings.HasPrefix(out, prefix+"."+pid+": process "+pid+", ") {
		t.Errorf("it says %s", out)
	}
	s.has(t, key)
	file := s.get(t, key)
	ok(t, "verify", file)
	fill, page := p.Fill(t), make([]byte, 4096)
	fill.Want(page, 2210)
	if got := ok(t, "read", file, (fill.Start+2210*4096).String()+"+4096", "-f", "raw"); got != string(page) {
		t.Error("a page differs")
	}

	// What is there stays, unless asked; before anything is stopped.
	before := switches(t, p)
	fails(t, 1, `^procmem: create `+prefix+`\.\d+: file (already )?exists \(use --force to replace it\)\n$`, "core", "-o", prefix, pid)
	for name, set := range map[string][2]string{
		"secret": {"AWS_SECRET_ACCESS_KEY", "wrong"},
		"user":   {"AWS_ACCESS_KEY_ID", "nobody"},
		"none":   {"AWS_ACCESS_KEY_ID", ""},
	} {
		t.Run("wrong "+name, func(t *testing.T) {
			t.Setenv(set[0], set[1])
			fails(t, 1, `^procmem: create `+prefix+`[^\n]*\n$`, "core", "--force", "-o", prefix, pid)
		})
	}
	fails(t, 1, `^procmem: create s3://elsewhere/core\.\d+: .*bucket.*\n$`, "core", "-o", "s3://elsewhere/core", pid)
	fails(t, 1, `parse "s3:///core`, "core", "-o", "s3:///core", pid)
	if after := switches(t, p); after != before {
		t.Errorf("the target was stopped:\n%s\nbefore:\n%s", after, before)
	}
	s.has(t, key)
	for _, to := range []string{"s3://" + storeBucket, "s3://" + storeBucket + "/"} {
		ok(t, "core", "-o", to, pid)
		s.has(t, "core."+pid, key)
		if err := s.RemoveObject(t.Context(), storeBucket, "core."+pid, minio.RemoveObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	ok(t, "core", "--force", "-o", prefix, "--method", "fork", pid)
	ok(t, "verify", s.get(t, key))
	out = ok(t, "core", "--compress", "zstd", "-o", prefix, "--json", pid)
	if !strings.Contains(out, `"path":"`+prefix+"."+pid+`.zst"`) {
		t.Errorf("it says %s", out)
	}
	s.has(t, key, key+".zst")
	file = s.get(t, key+".zst")
	tool(t, "zstd", "-q", "-t", file)
	ok(t, "verify", file)

	// One that was taken before.
	fails(t, 1, "exists", "pack", s.get(t, key), "-o", prefix+"."+pid+".zst")
	ok(t, "pack", s.get(t, key), "-o", prefix+".packed.zst")
	ok(t, "verify", s.get(t, "dir/core.packed.zst"))
}

// A signal comes while a part is on its way. procmem ends, and the server has forgotten what it
// got. The target, which notices all that is done to it, has noticed nothing.
func TestInterruptedUpload(t *testing.T) {
	s := startStore(t)
	p := testproc.Start(t, testproc.Torture)
	pid := strconv.Itoa(p.PID())
	for _, method := range []string{"stop", "fork", "precopy"} {
		t.Run(method, func(t *testing.T) {
			cmd, msg := s.interrupt(t, syscall.SIGTERM, "core", "--method", method, "-o", "s3://"+storeBucket+"/core", pid)
			if killedBy(cmd.ProcessState) != syscall.SIGTERM || !strings.Contains(msg, "stopped by SIGTERM") || strings.Count(msg, "\n") != 1 {
				t.Errorf("%v, %s", cmd.ProcessState, msg)
			}
			s.has(t)
			unharmed(t, p)
		})
	}
}

// procmem is killed in mid-upload. The abort helper has the server forget what it got.
func TestKilledUpload(t *testing.T) {
	s := startStore(t)
	p := testproc.Start(t, testproc.Torture)
	pid := strconv.Itoa(p.PID())
	for _, method := range []string{"stop", "precopy"} {
		cmd, msg := s.interrupt(t, syscall.SIGKILL, "core", "--method", method, "-o", "s3://"+storeBucket+"/core", pid)
		if cmd.ProcessState.String() != "signal: killed" ||
			msg != "procmem: s3://cores/core."+pid+": procmem was killed in mid-upload; the server was told to forget what it was sent\n" {
			t.Errorf("%v, %s", cmd.ProcessState, msg)
		}
		s.has(t)
		unharmed(t, p)
	}
}

// interrupt sends procmem a signal when a part is at the server and another is on its way. It
// waits until no process is left that could write to its stderr.
func (s *store) interrupt(t *testing.T, sig syscall.Signal, args ...string) (cmd *exec.Cmd, msg string) {
	t.Helper()
	first, arrived, end := make(chan struct{}), make(chan struct{}, 100), make(chan struct{})
	s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if isPart(r, 2) {
			<-first // the server has all of it
			arrived <- struct{}{}
			select {
			case <-r.Context().Done():
			case <-end:
			}
			return
		}
		next.ServeHTTP(w, r)
		if isPart(r, 1) {
			close(first)
		}
	})
	defer close(end)
	cmd = exec.Command("procmem", args...)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-arrived:
		_ = cmd.Process.Signal(sig)
		<-ended
	case err := <-ended:
		t.Fatalf("it ends: %v, %s", err, &out)
	}
	return cmd, out.String()
}

// unharmed checks that torture has noticed nothing.
func unharmed(t *testing.T, p *testproc.Proc) {
	t.Helper()
	testproc.Until(t, "nobody to trace the target", func() bool {
		for _, tid := range p.TIDs() {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", p.PID(), tid))
			if err == nil && !strings.Contains(string(b), "\nTracerPid:\t0\n") {
				return false
			}
		}
		return true
	})
	if wrong, counts := p.Check(t); wrong != "" {
		t.Errorf("the target says %s; all its counts: %v", wrong, counts)
	}
}

// The server refuses what comes next, and procmem says what was lost. It waits for a server
// that is away, and a signal can end that.
func TestUploadFails(t *testing.T) {
	s := startStore(t)
	p := testproc.Start(t, testproc.Torture)
	pid := strconv.Itoa(p.PID())

	t.Run("refused", func(t *testing.T) {
		s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if isPart(r, 2) {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprint(w, "<Error><Code>QuotaExceeded</Code><Message>the bucket is full</Message></Error>")
				return
			}
			next.ServeHTTP(w, r)
		})
		for _, form := range [][]string{{"--method", "stop"}, {"--method", "fork"}} {
			out := fails(t, 1, `^procmem: .*(upload|finish) s3://cores/core\.\d+: .*the bucket is full.* \(\d+ bytes had been sent; the object does not exist\)\n$`,
				append(form, "core", "-o", "s3://"+storeBucket+"/core", pid)...)
			if out != "" {
				t.Errorf("it says %s", out)
			}
			s.has(t)
			unharmed(t, p)
		}
	})

	t.Run("away", func(t *testing.T) {
		var killed atomic.Bool
		s.front(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if isPart(r, 2) && killed.CompareAndSwap(false, true) {
				s.kill()
			}
			next.ServeHTTP(w, r)
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cmd := exec.CommandContext(ctx, "procmem", "core", "-o", "s3://"+storeBucket+"/core", pid)
		msgs, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		first, all := make([]byte, 4096), bytes.Buffer{}
		n, err := msgs.Read(first)
		if err != nil || !strings.Contains(string(first[:n]), "the server does not take it") {
			t.Fatalf("%s, %v", first[:n], err)
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_, _ = all.ReadFrom(msgs)
		exit, _ := errors.AsType[*exec.ExitError](cmd.Wait())
		if killedBy(exit.ProcessState) != syscall.SIGTERM || !strings.HasSuffix(all.String(), "\nprocmem: stopped by SIGTERM\n") ||
			!strings.Contains(all.String(), "; the parts stay, and may be paid for, until a lifecycle rule removes them, or: aws s3api abort-multipart-upload") {
			t.Errorf("%v, %s", exit, &all)
		}
		unharmed(t, p)
	})
}
