package fidelity

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// server starts a program that does not say when it is ready, and returns
// when probe finds it so.
func server(t *testing.T, probe func() bool, cred *syscall.Credential, argv ...string) *testproc.Proc {
	t.Helper()
	// The shell says "ready" for it, and becomes it; on one processor (see startZoo).
	script := fmt.Sprintf(`echo ready; exec %s -c %d "$@" >&2`, need(t, "taskset"), processor(t))
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	p := startReady(t, cmd)
	testproc.Until(t, argv[0]+" to be ready", probe)
	return p
}

// stop ends a server in its own way at the end of the test, so that it takes
// what it has in the system with it.
func stop(t *testing.T, p *testproc.Proc, sig syscall.Signal) {
	t.Cleanup(func() {
		_ = syscall.Kill(p.PID(), sig)
		if state, err := p.Wait(); err != nil || !state.Exited() {
			t.Errorf("%s: %v, %v", p.Path, state, err)
		}
	})
}

func TestRedis(t *testing.T) {
	t.Parallel()
	redis, bench, cli := need(t, "redis-server"), need(t, "redis-benchmark"), need(t, "redis-cli")
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	ask := func(words ...string) string {
		return strings.TrimSpace(run(t, cli, append([]string{"-s", socket}, words...)...).stdout)
	}
	p := server(t, func() bool { return ask("ping") == "PONG" }, nil,
		redis, "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--io-threads", "2")
	stop(t, p, syscall.SIGTERM)
	run(t, bench, "-s", socket, "-q", "-t", "set,lpush,hset", "-n", "20000", "-r", "20000", "-d", "100").ok(t)
	// More than the test can take; it ends with the test.
	load := server(t, func() bool { return true }, nil,
		bench, "-s", socket, "-q", "-t", "set,get", "-n", "1000000000", "-r", "20000", "-c", "20")
	served := func() int {
		for line := range strings.Lines(ask("info", "stats")) {
			if n, ok := strings.CutPrefix(strings.TrimSpace(line), "total_commands_processed:"); ok {
				n, _ := strconv.Atoi(n)
				return n
			}
		}
		return 0
	}
	busy := func() {
		before := served()
		testproc.Until(t, "redis to be busy", func() bool { return served() > before+1000 })
	}
	busy()
	for _, method := range []string{"fork", "precopy"} { // while it serves
		c := ourCore(t, p.PID(), "--method", method)
		c.wantMethod(t, method)
		c.checkReadelf(t, len(living(p.PID())))
		busy()
	}
	release := hold(t, p.PID())
	cores := coresBy(t, p.PID(), "fork", "precopy")
	both := take(t, p.PID())
	both.compare(t)
	for method, c := range cores {
		t.Run(method, func(t *testing.T) { both.compareMethod(t, method, c) })
	}
	release()
	busy() // and none the worse
	load.Kill()
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	account, err := user.Lookup("postgres")
	if len(found) == 0 || err != nil {
		missing(t, "PostgreSQL is not installed")
	}
	slices.Sort(found)
	bin := func(name string) string { return need(t, filepath.Join(found[len(found)-1], name)) }
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	as := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(bin(name), args...)
		cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: cred}
		return cmd
	}
	data := filepath.Join(dir, "data")
	runCmd(t, as("initdb", "-D", data, "-N", "-A", "trust", "--locale=C")).ok(t)
	p := server(t, func() bool { return runCmd(t, as("pg_isready", "-h", dir)).status == 0 }, cred,
		bin("postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-c", "fsync=off", "-c", "autovacuum=off")
	stop(t, p, syscall.SIGINT) // fast: it ends the sessions itself
	runCmd(t, as("pgbench", "-h", dir, "-i", "-q", "postgres")).ok(t)
	load := server(t, func() bool { return true }, cred, bin("pgbench"), "-h", dir, "-c", "4", "-T", "3600", "postgres")
	backends := func() (found []int) {
		for _, pid := range children(t, p.PID()) {
			title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if strings.Contains(string(title), "postgres postgres [local]") {
				found = append(found, pid)
			}
		}
		return found
	}
	// The first connection of pgbench, which asks how large the tables are,
	// ends soon.
	newest := func(pids []int) int { return slices.Max(pids) }
	busy := func() {
		testproc.Until(t, "four busy backends", func() bool { return len(backends()) == 4 })
	}
	busy()
	// All of its processes write to the shared memory. The one that could
	// start more comes first.
	for _, method := range []string{"stop", "fork", "precopy"} { // while it serves
		for _, pid := range []int{p.PID(), newest(backends())} {
			c := ourCore(t, pid, "--method", method)
			c.wantTornByOthers(t, method)
			c.checkReadelf(t, 1)
		}
		busy()
	}
	release := hold(t, p.PID())
	releaseChildren := hold(t, children(t, p.PID())...)
	for name, pid := range map[string]int{"postmaster": p.PID(), "backend": newest(backends())} {
		t.Run(name, func(t *testing.T) {
			take(t, pid).compare(t)
		})
	}
	releaseChildren()
	release()
	count := func() string {
		return runCmd(t, as("psql", "-h", dir, "-Atc", "select count(*) from pgbench_history", "postgres")).ok(t)
	}
	before := count()
	testproc.Until(t, "more transactions", func() bool { return count() != before })
	load.Kill()
}
