package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/snapshot"
)

func open(t testing.TB, p *testproc.Proc) *process.Process {
	t.Helper()
	proc, err := process.Open(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	return proc
}

var methods = []snapshot.Method{snapshot.MethodAuto, snapshot.MethodStop, snapshot.MethodFork, snapshot.MethodPrecopy, snapshot.MethodLive}

// startTarget starts a process with more memory than is copied in a pause without a thought.
func startTarget(t *testing.T) *testproc.Proc {
	t.Helper()
	return testproc.Start(t, testproc.Kids, "--ballast", "40M")
}

// checkCore compares the ballast of a process with that of a core, and what is said of it.
func checkCore(t *testing.T, p *testproc.Proc, c *core.File, r *Result, m snapshot.Method) {
	t.Helper()
	ballast := p.Map(t, "ballast")
	got := make([]byte, procmem.PageSize)
	for i := 0; i < int(ballast.Size()/procmem.PageSize); i += 97 {
		if _, err := c.ReadAt(got, ballast.Page(i)); err != nil || !bytes.Equal(got, p.Want(t, ballast, i)) {
			t.Fatalf("page %d of the ballast: %x, %v", i, got[:8], err)
		}
	}
	if said := c.Report(); said == nil || said.Method != r.Method || said.Version != "test" || said.PID != p.PID() || said.Path != r.Path {
		t.Errorf("the core says %+v; want %+v", said, r.Report)
	}
	if m == snapshot.MethodAuto && r.Method == string(snapshot.MethodStop) || m != snapshot.MethodAuto && r.Method != string(m) {
		t.Errorf("method %s was taken; want %s", r.Method, m)
	}
	if r.Consistent != (m != snapshot.MethodLive) || len(r.Missing) > 0 || (r.PauseMS > 0) != (m != snapshot.MethodLive) || r.MemoryBytes < ballast.Size() || r.FileBytes == 0 || r.DiskBytes == 0 {
		t.Errorf("report %+v", r.Report)
	}
	if len(r.Image.Threads) != 1 {
		t.Errorf("%d threads", len(r.Image.Threads))
	}
	p.Cmd(t, "ping")
}

// By every method, and in every form, the core holds the memory of the process, and nothing
// else is left.
func TestToFile(t *testing.T) {
	p := startTarget(t)
	for _, m := range methods {
		for suffix, z := range map[string]Compression{"": Uncompressed, ".zst": Zstd} {
			t.Run(string(m)+suffix, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "core"+suffix)
				var kinds []EventKind
				o := Options{Method: m, Compress: z, Creator: "test", OnEvent: func(e Event) { kinds = append(kinds, e.Kind) }}
				r, err := ToFile(t.Context(), open(t, p), path, o)
				if err != nil {
					t.Fatal(err)
				}
				c, err := core.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				checkCore(t, p, c, r, m)
				if r.Path != path || kinds[len(kinds)-1] != EventFinishing {
					t.Errorf("path %q, events %v", r.Path, kinds)
				}
				if names, _ := os.ReadDir(dir); len(names) != 1 {
					t.Errorf("the folder has %v", names)
				}
				if _, err := ToFile(t.Context(), open(t, p), path, o); !errors.Is(err, os.ErrExist) || strings.Contains(err.Error(), "--") {
					t.Errorf("a file that exists: %v", err)
				}
				if m != snapshot.MethodAuto {
					return
				}
				o.Replace = true
				if _, err := ToFile(t.Context(), open(t, p), path, o); err != nil {
					t.Errorf("a file to be replaced: %v", err)
				}
			})
		}
	}
}

// expecting is a writer that wants to know how much comes.
type expecting struct {
	bytes.Buffer
	expected uint64
	err      error
}

func (e *expecting) Expect(n uint64) error {
	e.expected = n
	return e.err
}

func TestToWriter(t *testing.T) {
	p := startTarget(t)
	for _, m := range methods {
		for _, spool := range []Spool{{}, SpoolIn(t.TempDir()), NoSpool} {
			for name, z := range map[string]Compression{"plain": Uncompressed, "zstd": Zstd} {
				if z == Zstd && spool != (Spool{}) {
					continue // nothing of it depends on the spool
				}
				t.Run(string(m)+"/"+name, func(t *testing.T) {
					var w expecting
					o := Options{Method: m, Compress: z, Spool: spool, Creator: "test"}
					r, err := ToWriter(t.Context(), open(t, p), &w, o)
					if spool == NoSpool && m == snapshot.MethodPrecopy {
						if _, ok := errors.AsType[*SpoolError](err); !ok || w.Len() > 0 {
							t.Errorf("without a spool: %v", err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if n := uint64(w.Len()); n > w.expected || n != uint64(r.DiskBytes) && z == Zstd {
						t.Errorf("%d bytes came; %d were told, and %d in the report", n, w.expected, r.DiskBytes)
					}
					path := filepath.Join(t.TempDir(), "core")
					if err := os.WriteFile(path, w.Bytes(), 0o600); err != nil {
						t.Fatal(err)
					}
					c, err := core.Open(path)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					checkCore(t, p, c, r, m)
				})
			}
		}
	}
}

// A call of the library with zero options gets the short pause, and nothing in a folder.
func TestDefault(t *testing.T) {
	if err := snapshotTracks(t); err != nil {
		t.Skip(err)
	}
	p := startTarget(t)
	t.Setenv("TMPDIR", "/nonexistent")
	r, err := ToWriter(t.Context(), open(t, p), io.Discard, Options{})
	if err != nil || r.Method != string(snapshot.MethodPrecopy) {
		t.Errorf("%+v, %v", r, err)
	}
}

// snapshotTracks tells why precopy is not possible here.
func snapshotTracks(t *testing.T) error {
	t.Helper()
	self, err := process.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	all, err := snapshot.Estimates(self, snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Method == snapshot.MethodPrecopy {
			return e.Err
		}
	}
	return nil
}

func TestUnnamed(t *testing.T) {
	p := startTarget(t)
	ballast := p.Map(t, "ballast")
	for _, only := range [][]procmem.Range{nil, {ballast.Range}, {}} {
		dir := t.TempDir()
		c, r, err := Unnamed(t.Context(), open(t, p), dir, Options{Only: only, Creator: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if only == nil || len(only) > 0 {
			checkCore(t, p, c, r, snapshot.MethodAuto)
		}
		if only != nil && (r.MemoryBytes > ballast.Size() || len(only) == 0 && r.MemoryBytes > 0) {
			t.Errorf("%d bytes are held of %v", r.MemoryBytes, only)
		}
		if names, _ := os.ReadDir(dir); len(names) > 0 {
			t.Errorf("the folder has %v", names)
		}
		c.Close()
	}
}

func TestMemory(t *testing.T) {
	p := startTarget(t)
	ballast := p.Map(t, "ballast")
	for _, m := range methods {
		for _, folder := range []string{"", t.TempDir()} {
			calls := 0
			r, err := Memory(t.Context(), open(t, p), folder, Options{Method: m}, func(_ context.Context, mem *Moment) error {
				calls++
				if held := m == snapshot.MethodStop && folder != "" || m == snapshot.MethodLive; mem.Over == held {
					t.Errorf("%s into %q: the process goes on: %v", m, folder, mem.Over)
				}
				got := make([]byte, procmem.PageSize)
				if _, err := mem.ReadAt(got, ballast.Page(5)); err != nil || !bytes.Equal(got, p.Want(t, ballast, 5)) {
					t.Errorf("%s: %v", m, err)
				}
				return mem.Write(func() error { return nil })
			})
			if err != nil || calls != 1 || r.PID != p.PID() {
				t.Errorf("%s into %q: %d calls, %+v, %v", m, folder, calls, r, err)
			}
			p.Cmd(t, "ping")
		}
	}
	broken := errors.New("broken")
	if _, err := Memory(t.Context(), open(t, p), "", Options{}, func(context.Context, *Moment) error { return broken }); err != broken {
		t.Errorf("%v; want %v", err, broken)
	}
}

// What goes wrong is told by types, and leaves nothing.
func TestErrors(t *testing.T) {
	p := startTarget(t)
	dir := t.TempDir()
	full := errors.New("full")
	if _, err := ToWriter(t.Context(), open(t, p), &expecting{err: full}, Options{}); err != full {
		t.Errorf("a writer that refuses: %v", err)
	}
	_, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	for _, z := range []Compression{Uncompressed, Zstd} {
		if _, err := ToWriter(t.Context(), open(t, p), w, Options{Compress: z}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a writer that fails: %v", err)
		}
	}
	if _, err := ToFile(t.Context(), open(t, p), filepath.Join(dir, "none", "core"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	_, err = ToFile(t.Context(), open(t, p), filepath.Join(dir, "core"), Options{MaxPause: 1})
	refused, ok := errors.AsType[*snapshot.RefusedError](err)
	if of, isProcess := errors.AsType[*ProcessError](err); !ok || len(refused.Estimates) != 3 || !isProcess || of.PID != p.PID() {
		t.Errorf("a bound that nothing meets: %v", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	_, err = ToFile(t.Context(), open(t, p), filepath.Join(dir, "core"), Options{})
	_, zerr := ToFile(t.Context(), open(t, p), filepath.Join(dir, "core"), Options{Compress: Zstd, Method: snapshot.MethodPrecopy})
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*NoRoomError](err); !ok || !e.Limit || e.Have != 1<<20 || e.Need < 40<<20 {
		t.Errorf("a limit on file sizes: %v", err)
	}
	if e, ok := errors.AsType[*SpoolError](zerr); !ok || e.Dir != dir || !strings.Contains(zerr.Error(), "precopy") {
		t.Errorf("a limit on file sizes, compressed: %v", zerr)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	for _, z := range []Compression{Uncompressed, Zstd} {
		if _, err := ToFile(ctx, open(t, p), filepath.Join(dir, "core"), Options{Compress: z}); !errors.Is(err, cause) {
			t.Errorf("cancelled: %v", err)
		}
	}
	proc := open(t, p)
	p.Kill()
	p.Wait()
	_, err = ToFile(t.Context(), proc, filepath.Join(dir, "core"), Options{})
	if _, ok := errors.AsType[*ProcessError](err); !ok || !errors.Is(err, procmem.ErrGone) && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("a process that has ended: %v", err)
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("the folder has %v", names)
	}
}

// A prediction is near what a core comes to, and holds nothing.
func TestPredict(t *testing.T) {
	p := startTarget(t)
	path := filepath.Join(t.TempDir(), "core")
	want, err := Predict(t.Context(), open(t, p), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := ToFile(t.Context(), open(t, p), path, Options{Method: snapshot.MethodStop})
	if err != nil {
		t.Fatal(err)
	}
	if r.MemoryBytes != want.MemoryBytes || uint64(r.DiskBytes) > want.DataBytes+(1<<20) || len(want.Methods) != 3 || want.Image.Process.PID != p.PID() {
		t.Errorf("%+v; the core has %+v", want, r.Report)
	}
	long := strings.Repeat("x", 300)
	if got, err := Predict(t.Context(), open(t, p), filepath.Join(t.TempDir(), long, "core"), Options{}); err == nil || got == nil || got.MemoryBytes != want.MemoryBytes {
		t.Errorf("where there is no folder: %+v, %v", got, err)
	}
}
