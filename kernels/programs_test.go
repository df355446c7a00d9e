package kernels

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// module is the folder of the module, seen from this package.
const module = ".."

// install puts into root what a machine needs to run commands.
func (m machine) install(t *testing.T, root string, commands []string) {
	t.Helper()
	m.installBusybox(t, root)
	m.goBuild(t, "build", "./cmd/procmem", filepath.Join(root, "bin/procmem"))
	for _, c := range commands {
		for _, pkg := range testBinary.FindAllStringSubmatch(c, -1) {
			m.goBuild(t, "test", "./"+pkg[1], filepath.Join(root, "tests", pkg[0]))
		}
	}
	for _, v := range []testproc.Variant{testproc.Zoo, testproc.Witness, testproc.Many, testproc.Signals,
		testproc.Kids, testproc.Torture, testproc.Hunter, testproc.Odd, testproc.GoProg} {
		m.installHelper(t, v, filepath.Join(root, "helpers", v.String()))
	}
}

// testBinary is a word of a command that names the tests of a package.
var testBinary = regexp.MustCompile(`\b([a-z0-9/]+)\.test\b`)

// goBuild builds a program, or the tests of a package.
func (m machine) goBuild(t *testing.T, verb, pkg, out string) {
	t.Helper()
	args := []string{verb, "-trimpath", "-o", out, pkg}
	if verb == "test" {
		args = append([]string{verb, "-c"}, args[1:]...)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+m.arch)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, msg)
	}
}

// installHelper compiles a helper program without a dynamic loader, since there is none in the
// machine. A program that cannot be compiled for an architecture is missing there.
func (m machine) installHelper(t *testing.T, v testproc.Variant, path string) {
	t.Helper()
	built, err := "", error(nil)
	switch {
	case v.Toolchain == testproc.Go:
		built, err = testproc.BuildGoFor(v, m.arch)
	case m.arch == "amd64":
		built = testproc.Build(t, v.With(testproc.StaticPIE))
	default:
		built, err = testproc.BuildFor(v, "clang", "--target=aarch64-linux-gnu", "--sysroot="+m.library(t), "-fuse-ld=lld", "-static-pie", "-fPIE")
	}
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, built, path)
}

// library returns a folder with the C library, its headers and the compiler's support, for an
// architecture that is not this machine's. Debian's packages of a cross compiler and of
// gcc-multilib exclude each other, so nothing is installed.
func (m machine) library(t *testing.T) string {
	return archive{"trixie", m.arch}.unpacked(t, "library", named("libc6-dev", "linux-libc-dev", "libgcc-14-dev"))
}

// installBusybox has all programs of busybox in /bin, when init has linked them.
func (m machine) installBusybox(t *testing.T, root string) {
	t.Helper()
	from := archive{"trixie", m.arch}.unpacked(t, "busybox", named("busybox-static"))
	copyFile(t, filepath.Join(from, "usr/bin/busybox"), filepath.Join(root, "bin/busybox"))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
