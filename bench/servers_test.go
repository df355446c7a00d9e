package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

// Servers are measured by what their clients wait for.

// serve starts a program that runs until the test ends, or the bench does.
func serve(t *testing.T, cred *syscall.Credential, name string, args ...string) *testproc.Proc {
	t.Helper()
	// The shell says "ready" for it, and becomes it.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `echo ready; exec "$@" >&2`, "sh", name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Pdeathsig: syscall.SIGKILL}
	return testproc.StartCmd(t, cmd)
}

// folder returns a folder for a server that runs as cred. A socket has a short
// path without commas, which the name of a test is not.
func folder(t *testing.T, cred *syscall.Credential) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bench-server-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// redis compares on a Redis that is full of values of 1,000 bytes, and whose
// keys a redis-benchmark sets in disorder.
func redis(t *testing.T, w io.Writer) {
	for _, name := range []string{"redis-server", "redis-benchmark"} {
		if _, err := exec.LookPath(name); err != nil {
			skip(w, name+" is not installed")
			return
		}
	}
	const value, each = 1000, 1120 // bytes of a value, and of all that a key takes
	keys := gib / each / *scale
	dir := folder(t, nil)
	socket := filepath.Join(dir, "s")
	p := serve(t, nil, "redis-server", "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "no")
	var c *resp
	testproc.Until(t, "redis-server to listen", func() (ok bool) {
		c, ok = dialRedis(socket)
		return ok
	})
	defer c.Close()
	// The keys are named as redis-benchmark names them.
	if err := c.ask("EVAL", `local v = string.rep('x', ARGV[2])
		for i = 0, ARGV[1] - 1 do redis.call('SET', string.format('key:%012d', i), v) end`,
		"0", strconv.Itoa(keys), strconv.Itoa(value)); err != nil {
		t.Fatal(err)
	}
	load := serve(t, nil, "redis-benchmark", "-s", socket, "-q", "-t", "set", "-c", "4", "-n", "2000000000",
		"-r", strconv.Itoa(keys), "-d", strconv.Itoa(value))
	defer load.Kill() // before the server goes

	const connections, every = 4, 4 * time.Millisecond
	client := newClient()
	defer client.close()
	for i := range connections {
		c, ok := dialRedis(socket)
		if !ok {
			t.Fatal("redis-server does not answer any more")
		}
		text, n := strings.Repeat("y", value), i
		client.connect(c, every, func() error {
			n += 7919 // all over the keys, as it is prime to the number of them
			key := fmt.Sprintf("key:%012d", n%keys)
			if n%2 == 0 {
				return c.ask("GET", key)
			}
			return c.ask("SET", key, text)
		})
	}
	fmt.Fprintf(w, "redis-benchmark sets keys at random, as fast as it can over 4 connections. The client has %d other\n"+
		"connections and asks %d times in a second, by turns SET and GET.\n\n", connections, connections*int(time.Second/every))
	s := subject{pid: p.PID(), dir: *disk, meter: client.meter}
	s.compare(t, w, goal{30, 0})
}

// resp is a connection to Redis.
type resp struct {
	net.Conn
	r *bufio.Reader
}

// dialRedis returns a connection to a server that answers.
func dialRedis(socket string) (*resp, bool) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, false
	}
	c := &resp{conn, bufio.NewReader(conn)}
	if c.ask("PING") != nil {
		_ = c.Close()
		return nil, false
	}
	return c, true
}

// ask sends a command whose answer is one string, and reads it.
func (c *resp) ask(words ...string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		return err
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch line[:1] {
	case "-":
		return fmt.Errorf("%s: %s", words[0], line)
	case "$":
		n, err := strconv.Atoi(line[1:])
		if err == nil && n >= 0 {
			_, err = c.r.Discard(n + len("\r\n"))
		}
		return err
	}
	return nil
}

// client asks at a steady rate and keeps the longest time that it waited.
type client struct {
	mu      sync.Mutex
	longest time.Duration
	answers []int // of each connection
	err     error

	conns []io.Closer
	done  sync.WaitGroup
}

func newClient() *client { return &client{} }

// connect adds a connection, on which ask asks.
func (c *client) connect(conn io.Closer, every time.Duration, ask func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := len(c.conns)
	c.conns, c.answers = append(c.conns, conn), append(c.answers, 0)
	c.done.Go(func() {
		for next := time.Now(); ; next = next.Add(every) {
			if late := time.Since(next); late > 0 {
				next = time.Now() // what was missed is not made up for
			} else {
				time.Sleep(-late)
			}
			began := time.Now()
			err := ask()
			if !c.answered(i, time.Since(began), err) {
				return
			}
		}
	})
}

func (c *client) answered(i int, took time.Duration, err error) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.err == nil {
		c.err = err
	}
	c.answers[i]++
	c.longest = max(c.longest, took)
	return c.err == nil
}

// meter measures the highest latency of the requests that are on their way
// while during runs.
func (c *client) meter(t *testing.T, during func()) values {
	t.Helper()
	c.mu.Lock()
	c.longest = 0
	c.mu.Unlock()
	during()
	c.mu.Lock()
	before := slices.Clone(c.answers)
	c.mu.Unlock()
	// The requests that are on their way now are waited for.
	testproc.Until(t, "answers", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err != nil {
			t.Fatal(c.err)
		}
		for i, n := range c.answers {
			if n == before[i] {
				return false
			}
		}
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	return values{latency: c.longest.Seconds()}
}

func (c *client) close() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.done.Wait()
}

// postgres compares on a server process of a connection of pgbench.
func postgres(t *testing.T, w io.Writer) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(found) == 0 {
		skip(w, "PostgreSQL is not installed")
		return
	}
	bin := func(name string) string { return filepath.Join(slices.Max(found), name) }
	cred := unprivileged(t)
	dir := folder(t, cred)
	call := func(name string, args ...string) (string, error) {
		cmd := exec.Command(bin(name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: cred}
		b, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(b)), err
	}
	must := func(name string, args ...string) string {
		out, err := call(name, args...)
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return out
	}
	data := filepath.Join(dir, "data")
	must("initdb", "-D", data, "-U", "postgres", "-N", "-A", "trust", "--locale=C")
	// The disk is busy with cores, and what is to be seen is not that.
	p := serve(t, cred, bin("postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "shared_buffers=128MB",
		"-c", "fsync=off", "-c", "autovacuum=off")
	defer func() {
		_ = syscall.Kill(p.PID(), syscall.SIGQUIT) // it ends its children itself
		_, _ = p.Wait()
	}()
	to := []string{"-h", dir, "-U", "postgres"}
	testproc.Until(t, "postgres to listen", func() bool {
		_, err := call("pg_isready", to...)
		return err == nil
	})
	must("pgbench", append(to, "-i", "-q", "-s", strconv.Itoa(max(1, 10 / *scale)), "postgres")...)

	const clients, rate = 2, 500
	log := filepath.Join(dir, "log")
	load := serve(t, cred, bin("pgbench"), append(to, "-n", "-T", "1800", "-c", strconv.Itoa(clients), "-R", strconv.Itoa(rate),
		"-l", "--log-prefix", log, "postgres")...)
	defer load.Kill()
	backend := 0
	// Before its clients, pgbench has a connection that does not last.
	query := fmt.Sprintf("select min(pid) from pg_stat_activity where application_name = 'pgbench' having count(*) = %d", clients)
	testproc.Until(t, "pgbench to connect", func() bool {
		out := must("psql", append(to, "-Atc", query, "postgres")...)
		backend, _ = strconv.Atoi(out)
		return backend > 0
	})
	fmt.Fprintf(w, "pgbench asks for %d transactions in a second over %d connections, and logs the latency of each. The core is of\n"+
		"the server process of one of these connections, which maps all of the 128 MiB of shared buffers.\n\n", rate, clients)
	l := &transactions{path: fmt.Sprintf("%s.%d", log, load.PID()), clients: clients}
	s := subject{pid: backend, dir: *disk, meter: l.meter}
	s.compare(t, w, goal{30, 0})
}

// unprivileged returns an account for a server that refuses to run as root,
// or nil where this is none.
func unprivileged(t *testing.T) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		if account, err = user.Lookup("nobody"); err != nil {
			t.Fatal(err)
		}
	}
	uid, err1 := strconv.ParseUint(account.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(account.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// transactions reads the log that pgbench -l writes.
type transactions struct {
	path    string
	clients int
	offset  int64  // of what was not yet read
	rest    string // a line without its end
}

// meter returns the highest latency of the transactions that are on their
// way while during runs.
func (l *transactions) meter(t *testing.T, during func()) values {
	t.Helper()
	began := time.Now()
	during()
	ended := time.Now()
	var highest time.Duration
	past := map[string]bool{} // clients that have got to what began later
	// The log is written in blocks.
	testproc.Until(t, "the log of pgbench", func() bool {
		for _, line := range l.read(t) {
			// client, number, latency in µs, script, end in s and µs, lag
			f := strings.Fields(line)
			if len(f) < 6 {
				t.Fatalf("%s: line %q", l.path, line)
			}
			var n [3]int64
			for i, text := range []string{f[2], f[4], f[5]} {
				var err error
				if n[i], err = strconv.ParseInt(text, 10, 64); err != nil {
					t.Fatalf("%s: line %q: %v", l.path, line, err)
				}
			}
			took, end := time.Duration(n[0])*time.Microsecond, time.Unix(n[1], n[2]*1000)
			switch {
			case end.Add(-took).After(ended):
				past[f[0]] = true
			case end.After(began):
				highest = max(highest, took)
			}
		}
		return len(past) == l.clients
	})
	return values{latency: highest.Seconds()}
}

// read returns the lines that are new.
func (l *transactions) read(t *testing.T) []string {
	t.Helper()
	f, err := os.Open(l.path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, l.offset, 1<<40))
	if err != nil {
		t.Fatal(err)
	}
	l.offset += int64(len(b))
	lines := strings.Split(l.rest+string(b), "\n")
	l.rest = lines[len(lines)-1]
	return lines[:len(lines)-1]
}
