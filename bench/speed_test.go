package bench

import (
	_ "embed"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pm "github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/testproc"
)

const mib = 1 << 20

// copying compares procmem with gcore and with dd, which copies as much.
type copying struct {
	dir   string   // for the cores, if not on the disk
	flags []string // of dd

	// The goals: how fast by dd, how many times as fast as gcore, and whether
	// gcore's best is to be matched.
	ofDD, timesGcore float64
	best             bool
}

func (c copying) run(t *testing.T, w io.Writer) {
	size := 2 * gib / *scale
	// The target and a file of its size, and another file.
	if reason := lacks(2.5*float64(size), "/dev/shm"); reason != "" {
		skip(w, reason)
		return
	}
	s, _ := many{"fill", 2 * gib, "random"}.start(t)
	s.size = size
	if c.dir != "" {
		s.dir = c.dir
	}
	columns := s.measure(t, procmem(), gcore, dd(randomFile(t, size), c.flags...))
	ours, theirs, copied := columns[0], columns[1], columns[2]
	fmt.Fprint(w, "dd copies a file of random data, as large as the target's memory, from tmpfs to where the cores are written,\n"+
		"with bs=4M, and is followed by `sync FILE` as well.\n\n")
	table(w, columns, append(ratios("gcore", ours, theirs), derived{"by dd", func(r row) string {
		return ratio(median(ours.all(r.what)), median(copied.all(r.what)))
	}})...)

	of := median(ours.all(speed)) / median(copied.all(speed))
	goalLine(w, fmt.Sprintf("speed ≥ %.2f of that of %s", c.ofDD, copied.name), of >= c.ofDD, fmt.Sprintf("%.2f", of))
	times := median(theirs.all(total)) / median(ours.all(total))
	goalLine(w, fmt.Sprintf("≥ %.1f times as fast as gcore", c.timesGcore), times >= c.timesGcore, fmt.Sprintf("%.2f", times))
	if c.best {
		a, b := median(ours.all(total)), best(theirs.all(total))
		goalLine(w, "no slower than gcore's best", a <= b, ms(a)+" and "+ms(b))
	}
	unchanged(w, ours)
}

// compressed compares procmem, which compresses, with gcore and zstd.
func compressed(t *testing.T, w io.Writer) {
	if _, err := exec.LookPath("zstd"); err != nil {
		skip(w, "zstd is not installed")
		return
	}
	const limit, bulk = 0.5, 1.1
	s, _, _ := contents{gib, gib / 2, gib / 2}.start(t)
	columns := s.measure(t, compressing(), gcoreAndZstd)
	ours, theirs := columns[0], columns[1]
	fmt.Fprint(w, "procmem runs with --compress zstd. gcore is followed by `zstd -1 -T0 CORE`, and that by `sync CORE.zst`.\n\n")
	table(w, columns, ratios("gcore", ours, theirs)...)
	a := median(ours.all(total)) / median(theirs.all(total))
	goalLine(w, fmt.Sprintf("≤ %.1f of the time of gcore and zstd -1 -T0", limit), a <= limit, fmt.Sprintf("%.2f", a))
	b := median(ours.all(onDisk)) / median(theirs.all(onDisk))
	goalLine(w, fmt.Sprintf("≤ %.1f times as large on the disk", bulk), b <= bulk, fmt.Sprintf("%.3f", b))
	unchanged(w, ours)
}

// larger measures whether what is larger takes longer for each byte, or more
// memory.
func larger(t *testing.T, w io.Writer) {
	const less, more = 2, 8
	const within, plain, packing = 0.15, 64 * mib, 160 * mib
	if reason := lacks(float64((less+more)*gib / *scale + gib), *disk); reason != "" {
		skip(w, reason)
		return
	}
	var subjects []subject
	var columns []column
	for _, n := range []int{less, more} {
		s, _ := many{"fill", n * gib, "random"}.start(t)
		s.size = n * gib / *scale
		subjects = append(subjects, s)
		columns = append(columns, column{name: fmt.Sprintf("%d GiB", n)})
	}
	for round := range *rounds + 1 { // the first one warms up
		for i, s := range subjects {
			if v, _ := s.one(t, procmem(), 0); round > 0 {
				columns[i].samples = append(columns[i].samples, v)
			}
		}
	}
	v, _ := subjects[1].one(t, compressing(), 0)
	columns = append(columns, column{fmt.Sprintf("%d GiB, zstd, once", more), []sample{v}})
	small, large, zstd := columns[0], columns[1], columns[2]
	table(w, columns, derived{fmt.Sprintf("%d GiB by %d GiB", more, less), func(r row) string {
		return ratio(median(large.all(r.what)), median(small.all(r.what)))
	}})

	by := median(large.all(speed)) / median(small.all(speed))
	goalLine(w, fmt.Sprintf("speed within %.0f %% of that for %d GiB", within*100, less), by >= 1-within && by <= 1+within,
		fmt.Sprintf("%+.0f %%", (by-1)*100))
	a, b := most(large.all(peak)), most(zstd.all(peak))
	goalLine(w, fmt.Sprintf("peak memory in all runs ≤ %d MiB, and ≤ %d MiB compressed", plain/mib, packing/mib),
		a <= plain && b <= packing, mebibytes(a)+" and "+mebibytes(b))
	unchanged(w, columns...)
}

// verify measures how fast a core is checked that is on the disk alone.
func verify(t *testing.T, w io.Writer) {
	const goal = 0.85
	s, end := many{"fill", 2 * gib, "random"}.start(t)
	file := s.core(t, procmem())
	end()
	tools := []tool{
		{name: "procmem verify", args: []string{*binary, "verify", file}},
		{name: "dd iflag=direct", args: []string{"dd", "bs=4M", "iflag=direct", "of=/dev/null", "if=" + file}},
	}
	columns := make([]column, len(tools))
	for round := range *rounds + 1 {
		for i, tl := range tools {
			drop(t, file)
			cmd := exec.Command(tl.args[0], tl.args[1:]...)
			began := time.Now()
			if msg, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", cmd.Args, err, msg)
			}
			took := time.Since(began).Seconds()
			columns[i].name = tl.name
			if round > 0 {
				v := values{total: took, speed: float64(fileSize(t, file)) / took, peak: maxRSS(cmd)}
				columns[i].samples = append(columns[i].samples, sample{values: v})
			}
		}
	}
	fmt.Fprint(w, "The core is dropped from the page cache before each run. dd reads the same file, bs=4M, into /dev/null.\n"+
		"Speeds are those of the file.\n\n")
	ours, theirs := columns[0], columns[1]
	table(w, columns, ratios("dd", ours, theirs)...)
	of := median(ours.all(speed)) / median(theirs.all(speed))
	goalLine(w, fmt.Sprintf("speed ≥ %.2f of that of dd", goal), of >= goal, fmt.Sprintf("%.2f", of))
}

// randomReads measures how fast single pages are had from compressed cores.
func randomReads(t *testing.T, w io.Writer) {
	const goal, lasts = 500, 2 * time.Second
	fmt.Fprintf(w, "One goroutine reads pages at random for %v, from the core of a process with 2 GiB of such data:\n"+
		"with the file in the page cache, and with the file dropped from it before each read.\n\n", lasts)
	var columns []column
	for _, kind := range []struct {
		name string
		contents
	}{{"random", contents{random: 2 * gib}}, {"text", contents{text: 2 * gib}}} {
		s, data, end := kind.start(t)
		file := s.core(t, compressing())
		end()
		core, err := core.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer core.Close()
		warm, cold := column{name: kind.name + ", in the page cache"}, column{name: kind.name + ", dropped"}
		for round := range *rounds + 1 {
			a := pagesRead(t, core, data, lasts, func() {})
			b := pagesRead(t, core, data, lasts, func() { drop(t, file) })
			if round > 0 { // the first one warms up
				warm.samples, cold.samples = append(warm.samples, a), append(cold.samples, b)
			}
		}
		columns = append(columns, warm, cold)
		os.Remove(file)
	}
	table(w, columns)
	slowest := median(columns[0].all(reads))
	for _, c := range columns {
		slowest = min(slowest, median(c.all(reads)))
	}
	goalLine(w, fmt.Sprintf("≥ %d reads of a page in a second", goal), slowest >= goal, number(slowest)+" at the slowest")
}

// pagesRead reads pages of r at random.
func pagesRead(t *testing.T, m pm.Memory, r pm.Range, lasts time.Duration, before func()) sample {
	t.Helper()
	page := make([]byte, pm.PageSize)
	had := bytesRead(t)
	n, began := 0, time.Now()
	for ; time.Since(began) < lasts; n++ {
		before()
		addr := r.Start + pm.Addr(rand.Uint64N(uint64(r.End-r.Start)/pm.PageSize)*pm.PageSize)
		if _, err := m.ReadAt(page, addr); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began).Seconds()
	return sample{values: values{reads: float64(n) / took, perRead: (bytesRead(t) - had) / float64(n)}}
}

// bytesRead returns what this process has read so far by system calls.
func bytesRead(t *testing.T) (n float64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(b), "rchar: %f", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// core takes a core of s that stays until the end of the test, and returns its
// path.
func (s subject) core(t *testing.T, tl tool) string {
	t.Helper()
	prefix := filepath.Join(s.dir, fmt.Sprintf("bench-kept-%d", os.Getpid()))
	file := fmt.Sprintf("%s.%d%s", prefix, s.pid, tl.suffix)
	t.Cleanup(func() { os.Remove(file) })
	for _, args := range append(tl.commands(prefix, strings.TrimSuffix(file, tl.suffix), s.pid), []string{"sync", file}) {
		if msg, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, msg)
		}
	}
	return file
}

// drop drops a file from the page cache.
func drop(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// randomFile makes a file of random data in tmpfs, and removes it at the end
// of the test.
func randomFile(t *testing.T, size int) string {
	t.Helper()
	path := filepath.Join("/dev/shm", fmt.Sprintf("bench-source-%d", os.Getpid()))
	t.Cleanup(func() { os.Remove(path) })
	cmd := exec.Command("dd", "if=/dev/urandom", "of="+path, "bs=4M", "iflag=count_bytes,fullblock", fmt.Sprint("count=", size))
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dd: %v\n%s", err, msg)
	}
	return path
}

// contents is a target with so many bytes of each, all of them written. The
// text is a log.
type contents struct{ zeros, text, random int }

//go:embed src/contents.c
var contentsC []byte

// start returns the target, where its data is, and what ends it before the
// test does.
func (c contents) start(t *testing.T) (s subject, data pm.Range, end func()) {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "contents.c"), filepath.Join(dir, "contents")
	if err := os.WriteFile(source, contentsC, 0o644); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.Command("gcc", "-O2", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, msg)
	}
	size := func(n int) string { return fmt.Sprint(n / *scale) }
	p := testproc.StartCmd(t, exec.Command(program, size(c.zeros), size(c.text), size(c.random)))
	s = subject{pid: p.PID(), dir: *disk, size: (c.zeros + c.text + c.random) / *scale}
	return s, p.Range(t, "data"), func() {
		p.CloseStdin()
		if _, err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// unchanged is the goal for what a core does to the memory of its target.
func unchanged(w io.Writer, columns ...column) {
	const limit = mib
	highest := 0.0
	for _, c := range columns {
		highest = max(highest, most(c.all(change)))
	}
	goalLine(w, fmt.Sprintf("the target's memory is unchanged within %d MiB in all runs", limit/mib), highest <= limit, mebibytes(highest))
}

func most(v []float64) (highest float64) {
	for _, x := range v {
		highest = max(highest, x)
	}
	return highest
}

func mebibytes(n float64) string { return number(n/mib) + " MiB" }
