package kernels

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// archive is one suite of Debian for one architecture.
type archive struct{ suite, arch string }

// updated are the archives whose lists of packages were downloaded in this run.
var updated = map[archive]bool{}

func (a archive) dir() string { return filepath.Join(*cache, a.suite+"-"+a.arch) }

// unpacked returns the folder with the files of packages. They are downloaded unless the cache
// has them. choose names the packages, when the lists are there.
func (a archive) unpacked(t *testing.T, what string, choose func() []string) string {
	t.Helper()
	defer a.lock(t)()
	root := filepath.Join(a.dir(), what)
	if _, err := os.Stat(root); err == nil {
		return root
	}
	a.update(t)
	debs := filepath.Join(a.dir(), what+".debs")
	tmp := root + ".partial"
	for _, dir := range []string{debs, tmp} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a.apt(t, debs, "apt-get", append([]string{"download"}, choose()...)...)
	files, _ := filepath.Glob(debs + "/*.deb")
	for _, deb := range files {
		output(t, debs, "dpkg-deb", "-x", deb, tmp)
	}
	if err := os.Rename(tmp, root); err != nil {
		t.Fatal(err)
	}
	_ = os.RemoveAll(debs)
	return root
}

// lock waits until no other run uses the folder, and returns how to let go of it.
func (a archive) lock(t *testing.T) (unlock func()) {
	t.Helper()
	if err := os.MkdirAll(a.dir(), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(a.dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { dir.Close() }
}

// named is for packages whose names are known.
func named(packages ...string) func() []string { return func() []string { return packages } }

var kernelPackage = regexp.MustCompile(`^linux-(image|binary)-[0-9]`)

// kernel returns the path of the image that a package depends on, directly or not.
func (a archive) kernel(t *testing.T, name string) string {
	t.Helper()
	root := a.unpacked(t, name, func() (found []string) {
		depends := a.apt(t, a.dir(), "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests",
			"--no-breaks", "--no-conflicts", "--no-replaces", "--no-enhances", name)
		for p := range strings.Lines(depends) {
			if p = strings.TrimSpace(p); kernelPackage.MatchString(p) {
				found = append(found, p)
			}
		}
		if found == nil {
			t.Fatalf("%s of %s for %s depends on no kernel", name, a.suite, a.arch)
		}
		return found
	})
	images, _ := filepath.Glob(root + "/boot/vmlinuz-*")
	if images == nil {
		images, _ = filepath.Glob(root + "/usr/lib/modules/*/vmlinuz")
	}
	if len(images) != 1 {
		t.Fatalf("%s: %d kernels; want one. Remove the folder, to have it downloaded anew", root, len(images))
	}
	return images[0]
}

// update downloads the lists of packages.
func (a archive) update(t *testing.T) {
	t.Helper()
	if updated[a] {
		return
	}
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir(), sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	line := fmt.Sprintf("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian %s main\n", a.suite)
	for name, text := range map[string]string{"sources.list": line, "status": ""} {
		if err := os.WriteFile(filepath.Join(a.dir(), name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a.apt(t, a.dir(), "apt-get", "update", "--error-on=any")
	updated[a] = true
}

// apt runs a program of apt with lists of the archive's own: the sources, the lists and the
// packages of this machine stay as they are.
func (a archive) apt(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	var options []string
	for _, o := range []string{
		"APT::Architecture=" + a.arch, "APT::Architectures=" + a.arch, "APT::Sandbox::User=root",
		"Dir::Etc::sourcelist=" + a.dir() + "/sources.list", "Dir::Etc::sourceparts=/dev/null",
		"Dir::State::status=" + a.dir() + "/status", "Dir::State::lists=" + a.dir() + "/lists", "Dir::Cache=" + a.dir(),
		"Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"Acquire::Retries=3", "Acquire::http::Timeout=30",
	} {
		options = append(options, "-o", o)
	}
	out, err := try(t, dir, program, append(options, args...)...)
	if err != nil {
		t.Fatalf("%s %s, of %s for %s (the network is needed, unless %s has the packages): %v", program, args[0], a.suite, a.arch, *cache, err)
	}
	return out
}

// output runs a program, which must succeed.
func output(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	out, err := try(t, dir, program, args...)
	if err != nil {
		t.Fatalf("%s %q: %v", program, args, err)
	}
	return out
}

// try runs a program, and returns what it prints.
func try(t *testing.T, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	var msg bytes.Buffer
	cmd.Stderr = &msg
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, &msg)
	}
	return string(out), err
}
