package harm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/testproc"
)

// smallDisk returns a file system of this size, which is gone with the test.
func smallDisk(t testing.TB, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("procmem-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// predicted is what doctor says that a core takes on the disk.
func predicted(t testing.TB, pid int, prefix string) int64 {
	t.Helper()
	var d struct {
		Prediction struct {
			DiskBytes int64 `json:"disk_bytes"`
		} `json:"prediction"`
	}
	r := call(t, "doctor", "--json", "-o", prefix, pid)
	if err := json.Unmarshal([]byte(r.stdout), &d); err != nil || d.Prediction.DiskBytes == 0 {
		t.Fatalf("%v: %v", err, r)
	}
	return d.Prediction.DiskBytes
}

// What does not fit is refused before the target is stopped.
func TestNoRoom(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "16M")
	disk := smallDisk(t, 4<<20)
	neverStopped(t, p, func() {
		for _, verb := range []string{"core", "dump"} {
			call(t, verb, "-o", filepath.Join(disk, verb), p.PID()).want(t, 1,
				`^procmem: write .*: no room: about .* MiB are needed and .* is free there; .*nothing was stopped\)\n$`)
		}
		t.Setenv("TMPDIR", disk)
		for _, form := range [][]any{{"core", "-o", filepath.Join(disk, "core"), "--compress", "zstd"}, {"core", "-o", "-"}, {"dump", "-o", "-"}} {
			call(t, append(form, "--method", "precopy", p.PID())...).want(t, 1,
				`^procmem: method precopy copies memory ahead, to .*: no room: about .* MiB may be needed there and .* is free(; choose another folder by TMPDIR)? \(nothing was stopped\)\n$`)
		}
	})
	wantNames(t, disk)
	call(t, "core", "-o", filepath.Join(disk, "core"), p.PID(), p.PID()).want(t, 1, "no room")
	unharmed(t, p)
}

// Pages of zeros take no room, and are looked for where that matters.
func TestRoomWithoutZeros(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "fill", "32M", "zero")
	disk := smallDisk(t, 8<<20)
	doctor := call(t, "doctor", "-o", filepath.Join(disk, "core"), p.PID())
	doctor.want(t, 0, "^$")
	if !strings.Contains(doctor.stdout, "it fits") {
		t.Errorf("doctor says %v", doctor)
	}
	call(t, "core", "-o", disk+"/", p.PID()).want(t, 0, "^$")
	openCore(t, fmt.Sprintf("%s/core.%d", disk, p.PID()))
	call(t, "dump", "-o", filepath.Join(disk, "dump"), p.PID()).want(t, 0, "^$")
	unharmed(t, p)
}

// The limit on file sizes counts the holes of a core, which the room on the
// disk does not.
func TestFileSizeLimit(t *testing.T) {
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skip(err)
	}
	limited := func(size string, args ...any) *exec.Cmd {
		cmd := command(args...)
		cmd.Args = append([]string{prlimit, "--fsize=" + size, program}, cmd.Args[1:]...)
		cmd.Path = prlimit
		return cmd
	}
	sparse := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "memfd")
	dense := testproc.Start(t, testproc.Many, "fill", "16M")
	dir := t.TempDir()
	const refusal = `^procmem: write .*: the limit on file sizes is .* ulimit -f \(nothing was stopped\)\n$`
	neverStopped(t, sparse, func() {
		begin(t, limited("67108864", "core", "-o", dir+"/core", sparse.PID())).wait(t).want(t, 1, refusal)
		begin(t, limited("67108864", "dump", "-o", dir+"/dump", sparse.PID())).wait(t).want(t, 1, refusal)
	})
	neverStopped(t, dense, func() {
		begin(t, limited("8388608", "core", "-o", dir+"/core", dense.PID())).wait(t).want(t, 1, refusal)
	})
	wantNames(t, dir)
	// The notes are not predicted, and go beyond the limit.
	limit := fmt.Sprint(predicted(t, dense.PID(), dir+"/core") + 1<<20)
	begin(t, limited(limit, "core", "-o", dir+"/core", dense.PID())).wait(t)
	unharmed(t, sparse)
	unharmed(t, dense)
}

// The disk is full before the core is whole, although it was predicted to
// fit: the room is exactly what the memory needs, and none is left for notes.
func TestDiskFillsUp(t *testing.T) {
	p := testproc.Start(t, testproc.Many, "threads", "200")
	const slack = 64 << 10
	disk := smallDisk(t, predicted(t, p.PID(), t.TempDir()+"/core")+slack)
	for _, force := range []bool{false, true} {
		path := filepath.Join(disk, fmt.Sprintf("core.%d", p.PID()))
		args := []any{"core", "-o", filepath.Join(disk, "core"), p.PID()}
		if force {
			args = append(args, "--force")
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		call(t, args...).want(t, 1, `^procmem: .*core\.\d+\.partial: no space left on device: choose another place with -o, or a stream with -o -\n$`)
		unharmed(t, p)
		if !force {
			wantNames(t, disk)
			continue
		}
		wantNames(t, disk, filepath.Base(path))
		if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
			t.Errorf("the old file is %q, %v", b, err)
		}
	}
}

// Somebody else takes the room while the core is written.
func TestDiskIsFilled(t *testing.T) {
	const size = 24 << 20
	p := testproc.Start(t, testproc.Many, "fill", "16M")
	for _, verb := range []string{"core", "dump"} {
		t.Run(verb, func(t *testing.T) {
			for range 50 {
				disk := smallDisk(t, size)
				path := filepath.Join(disk, verb)
				partial := path + ".partial"
				if verb == "core" {
					partial = fmt.Sprintf("%s.%d.partial", path, p.PID())
				}
				r := begin(t, command(verb, "-o", path, p.PID()))
				for !r.ended() {
					if _, err := os.Stat(partial); err == nil {
						break
					}
				}
				r.signal(syscall.SIGSTOP) // so that there is time for it
				filler := filepath.Join(disk, "filler")
				_ = os.WriteFile(filler, make([]byte, size), 0o600) // as far as it goes
				r.signal(syscall.SIGCONT)
				got := r.wait(t)
				unharmed(t, p)
				if got.status == 0 || strings.Contains(got.stderr, "no room: ") {
					continue // it was quicker, or had not looked for room yet
				}
				got.want(t, 1, `^procmem: .*no space left on device: choose another place with -o, or a stream with -o -\n$`)
				wantNames(t, disk, "filler")
				return
			}
			t.Error("procmem is too quick to fill the disk before it")
		})
	}
}

// An existing file is not touched, unless the user says so.
func TestExistingFile(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon")
	dir := t.TempDir()
	path := fmt.Sprintf("%s/core.%d", dir, p.PID())
	old := func() {
		t.Helper()
		if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
			t.Fatalf("the old file is %.10q, %v", b, err)
		}
	}
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/dump", 0o755); err != nil {
		t.Fatal(err)
	}
	neverStopped(t, p, func() {
		call(t, "core", "-o", dir+"/core", p.PID()).want(t, 1, `^procmem: create .*: file (already )?exists.*--force`)
		call(t, "dump", "-o", dir+"/dump", p.PID()).want(t, 1, `^procmem: create .*: file (already )?exists`)
	})
	old()
	// A run that fails leaves the old file, even with --force.
	for beginStuckInWrite(t, p, dir).wait(t).status == 0 { // it was quicker
		if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old()
	call(t, "core", "--force", "-o", dir+"/core", p.PID()).want(t, 0, "^$")
	openCore(t, path)
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
	}
	wantNames(t, dir, filepath.Base(path), "dump")
	unharmed(t, p)
}

// beginStuckInWrite starts a run with --force, stops it when it has begun its
// file, tries a second one, and then has it end with SIGTERM.
func beginStuckInWrite(t testing.TB, p *testproc.Proc, dir string) *run {
	t.Helper()
	partial := fmt.Sprintf("%s/core.%d.partial", dir, p.PID())
	r := begin(t, command("core", "--force", "--method", "stop", "-o", dir+"/core", p.PID()))
	for !r.ended() && written(partial) == 0 {
	}
	r.signal(syscall.SIGSTOP)
	testproc.Until(t, "SIGSTOP", func() bool { return r.ended() || stopped(r.pid()) })
	// A second run while the first one writes.
	if _, err := os.Stat(partial); err == nil {
		call(t, "core", "--force", "-o", dir+"/core", p.PID()).want(t, 1, "another run is writing|already traced")
		if _, err := os.Stat(partial); err != nil {
			t.Errorf("the second run has removed what the first one writes: %v", err)
		}
	}
	r.signal(syscall.SIGTERM)
	r.signal(syscall.SIGCONT)
	return r
}

// Folders that do not exist, or may not be written.
func TestNoFolder(t *testing.T) {
	u := unprivileged(t)
	p := u.start(t, testproc.Zoo, "--nospin", "--only", "anon")
	closed := u.dir(t)
	if err := os.Chmod(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(u.dir(t), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	neverStopped(t, p, func() {
		for prefix, want := range map[string]string{
			closed + "/core":        `permission denied(: choose another folder, as with -o /tmp/)?\n$`,
			closed + "/absent/core": `no such file or directory\n$`,
			file + "/core":          `not a directory\n$`,
		} {
			u.call(t, "core", "-o", prefix, p.PID()).want(t, 1, "^procmem: .*"+filepath.Base(filepath.Dir(prefix))+".*: "+want)
			u.call(t, "dump", "-o", prefix, p.PID()).want(t, 1, "^procmem: .*: "+want)
		}
		call(t, "core", "-o", "/proc/core", p.PID()).want(t, 1, "^procmem: .*/proc/core")
	})
	wantNames(t, closed)
	unharmed(t, p)
}

// The partial file of somebody else is not written to: it would stay theirs.
func TestForeignPartial(t *testing.T) {
	p := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon")
	dir := t.TempDir()
	partial := fmt.Sprintf("%s/core.%d.partial", dir, p.PID())
	victim := filepath.Join(dir, "victim")
	plant := map[string]func() error{
		"file": func() error {
			return join(os.WriteFile(partial, []byte("theirs"), 0o666), os.Chown(partial, nobody, nobody))
		},
		"hard link": func() error {
			return join(os.WriteFile(victim, []byte("theirs"), 0o600), os.Link(victim, partial))
		},
		"link": func() error {
			return join(os.WriteFile(victim, []byte("theirs"), 0o600), os.Symlink(victim, partial))
		},
		"fifo": func() error { return unix.Mkfifo(partial, 0o666) },
	}
	for name, f := range plant {
		t.Run(name, func(t *testing.T) {
			defer os.Remove(partial)
			defer os.Remove(victim)
			if err := f(); err != nil {
				t.Fatal(err)
			}
			neverStopped(t, p, func() {
				call(t, "core", "-o", dir+"/core", p.PID()).want(t, 1, `^procmem: create .*core\.\d+: `)
			})
			for _, file := range []string{partial, victim} {
				if name == "fifo" {
					continue
				}
				if b, err := os.ReadFile(file); err == nil && string(b) != "theirs" {
					t.Errorf("%s is now %.20q", file, b)
				}
			}
		})
	}
	// A folder that was not made by procmem is not emptied.
	theirs := dir + "/dump.partial"
	if err := join(os.Mkdir(theirs, 0o755), os.WriteFile(theirs+"/precious", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	call(t, "dump", "-o", dir+"/dump", p.PID()).want(t, 1, `^procmem: create .*precious`)
	wantNames(t, theirs, "precious")
}

func join(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Of several processes, one that fails does not keep the others from being
// taken, and the status tells.
func TestSeveral(t *testing.T) {
	a := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon")
	b := testproc.Start(t, testproc.Zoo, "--nospin", "--only", "anon")
	dir := t.TempDir()
	const nobodyThere = 1 << 30
	r := call(t, "core", "-o", dir+"/core", a.PID(), nobodyThere, b.PID())
	r.want(t, 1, "^procmem: no process has pid 1073741824")
	if got := strings.Join(names(t, dir), " "); !strings.Contains(got, fmt.Sprint(a.PID())) || !strings.Contains(got, fmt.Sprint(b.PID())) {
		t.Errorf("there is %s", got)
	}
	unharmed(t, a)
	unharmed(t, b)
}
