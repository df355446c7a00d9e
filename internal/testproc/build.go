package testproc

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

//go:embed src/*.h src/*.c src/goprog/main.go
var sources embed.FS

// Toolchain is how a helper program is compiled.
type Toolchain string

// The toolchains. The zero Toolchain is Dynamic.
const (
	Dynamic   Toolchain = "dynamic"    // gcc, position independent, glibc as a shared library
	NoPIE     Toolchain = "no-pie"     // gcc, at a fixed address (ET_EXEC)
	StaticPIE Toolchain = "static-pie" // gcc, position independent without a dynamic loader
	Musl      Toolchain = "musl"       // musl-gcc
	M32       Toolchain = "m32"        // gcc -m32: a program for i386
	Go        Toolchain = "go"         // go build
)

// Toolchains returns those that compile C.
func Toolchains() []Toolchain { return []Toolchain{Dynamic, NoPIE, StaticPIE, Musl, M32} }

var cFlags = []string{"-std=gnu11", "-g", "-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls",
	"-D_FILE_OFFSET_BITS=64", "-pthread"}

func (tc Toolchain) compiler() []string {
	switch tc {
	case NoPIE:
		return append([]string{"gcc", "-no-pie", "-fno-pie"}, cFlags...)
	case StaticPIE:
		return append([]string{"gcc", "-static-pie", "-fPIE"}, cFlags...)
	case Musl:
		return append([]string{"musl-gcc"}, cFlags...)
	case M32:
		return append([]string{"gcc", "-m32", "-msse2"}, cFlags...)
	case Go:
		return []string{"go", "build"}
	}
	return append([]string{"gcc", "-pie", "-fPIE"}, cFlags...)
}

// Variant is a helper program, compiled in one way.
type Variant struct {
	Program   string
	Toolchain Toolchain
}

// The helper programs, as the package comment describes them.
var (
	Zoo     = Variant{"zoo", Dynamic}
	Witness = Variant{"witness", Dynamic}
	Many    = Variant{"many", Dynamic}
	Signals = Variant{"signals", Dynamic}
	Kids    = Variant{"kids", Dynamic}
	Torture = Variant{"torture", Dynamic}
	Hunter  = Variant{"hunter", Dynamic}
	Frames  = Variant{"frames", Dynamic}
	Odd     = Variant{"odd", Dynamic} // in no other toolchain
	GoProg  = Variant{"goprog", Go}
)

// Variants returns every program in every toolchain.
func Variants() []Variant {
	all := []Variant{GoProg}
	for _, v := range []Variant{Zoo, Witness, Many, Signals, Kids, Torture, Hunter, Frames} {
		for _, tc := range Toolchains() {
			all = append(all, v.With(tc))
		}
	}
	return all
}

// With returns the same program, compiled by another toolchain.
func (v Variant) With(tc Toolchain) Variant {
	v.Toolchain = tc
	return v
}

func (v Variant) String() string { return v.Program + "-" + string(v.Toolchain) }

// Build compiles v, unless the cache has it, and returns the path of the program. Where the
// toolchain is missing the test is skipped, or fails if PROCMEM_TEST_ALL=1 is set.
func Build(t testing.TB, v Variant) string {
	t.Helper()
	path, err := build(v)
	var missing *missingError
	switch {
	case errors.As(err, &missing) && os.Getenv("PROCMEM_TEST_ALL") != "1":
		t.Skipf("testproc: %v", err)
	case err != nil:
		t.Fatalf("testproc: %v", err)
	}
	return path
}

// missingError: the toolchain is not installed, or not whole.
type missingError struct {
	tc  Toolchain
	err error
}

func (e *missingError) Error() string { return fmt.Sprintf("toolchain %s: %v", e.tc, e.err) }
func (e *missingError) Unwrap() error { return e.err }

func build(v Variant) (string, error) {
	if dir := os.Getenv(Built); dir != "" {
		return built(dir, v)
	}
	return buildBy(v.Toolchain.compiler(), v)
}

// buildBy compiles v with argv, unless the cache has what that gave.
func buildBy(argv []string, v Variant) (string, error) {
	compiler, err := exec.LookPath(argv[0])
	if err != nil {
		return "", &missingError{v.Toolchain, err}
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	files := []string{"helper.h", "kinds.h", v.Program + ".c"}
	if v.Toolchain == Go {
		files = []string{v.Program + "/main.go"}
	}
	// The name of the folder tells all that the program depends upon.
	sum := sha256.New()
	fmt.Fprintln(sum, v, compiler, argv)
	if fi, err := os.Stat(compiler); err == nil {
		fmt.Fprintln(sum, fi.Size(), fi.ModTime())
	}
	text := make([][]byte, len(files))
	for i, f := range files {
		if text[i], err = sources.ReadFile("src/" + f); err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", f, len(text[i]), text[i])
	}
	dir := filepath.Join(cache, v.String()+"-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	path := filepath.Join(dir, v.Program)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// Others may build the same at this moment: work aside, then rename.
	tmp, err := os.MkdirTemp(cache, tempName("build"))
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	for i, f := range files {
		if err := os.WriteFile(filepath.Join(tmp, filepath.Base(f)), text[i], 0o644); err != nil {
			return "", err
		}
	}
	source := filepath.Base(files[len(files)-1])
	if v.Toolchain != Go {
		if err := toolchainWorks(argv, tmp); err != nil {
			return "", &missingError{v.Toolchain, err}
		}
	}
	if err := compile(argv, tmp, v.Program, source); err != nil {
		return "", fmt.Errorf("build %v: %w", v, err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil {
		if _, stat := os.Stat(path); stat != nil {
			return "", err
		}
	}
	return path, nil
}

// toolchainWorks compiles an empty program: gcc without the 32-bit library is a missing
// toolchain, an error in a helper program is not.
func toolchainWorks(argv []string, dir string) error {
	const name = "empty.c"
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#include <stdio.h>\nint main(void) { return 0; }\n"), 0o644); err != nil {
		return err
	}
	return compile(argv, dir, "empty", name)
}

func compile(argv []string, dir, out, source string) error {
	args := append(slices.Clone(argv[1:]), "-o", out, source)
	cmd := exec.Command(argv[0], args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "CGO_ENABLED=0", "GOFLAGS=", "GO111MODULE=off", "GOWORK=off")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, msg)
	}
	return nil
}

// cacheDir is a folder of this user below /tmp, which other users may enter. A test may run a
// helper as one of them, and a home folder would stop it.
func cacheDir() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("procmem-testproc-%d", os.Getuid()))
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || !ok || int(st.Uid) != os.Getuid() || fi.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s: not a folder of this user alone", dir)
	}
	sweep.Do(func() { removeStale(dir) })
	return dir, nil
}

// tempName is a pattern for os.MkdirTemp that tells whose the folder is.
func tempName(what string) string { return fmt.Sprintf("%s-%d-", what, os.Getpid()) }

var sweep sync.Once

// removeStale removes what tests that were killed have left. The age is for those of another
// pid namespace, whose processes are not seen.
func removeStale(cache string) {
	dirs, _ := filepath.Glob(filepath.Join(cache, "*-*-*"))
	for _, dir := range dirs {
		name := strings.Split(filepath.Base(dir), "-")
		if name[0] != "run" && name[0] != "build" {
			continue
		}
		fi, err := os.Stat(dir)
		_, alive := os.Stat("/proc/" + name[1])
		if err == nil && alive != nil && time.Since(fi.ModTime()) > time.Hour {
			_ = os.RemoveAll(dir)
		}
	}
}
