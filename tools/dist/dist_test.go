package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const testVersion = "1.2.3-4-gabcdef0"

// TestDist makes a release twice, and compares; installs, runs and removes what was made.
func TestDist(t *testing.T) {
	first := made(t)
	t.Run("reproducible", func(t *testing.T) {
		defer syscall.Umask(syscall.Umask(0o077))
		t.Setenv("TZ", "Asia/Tokyo")
		second := made(t)
		if !slices.Equal(first.made, second.made) {
			t.Fatalf("made %q, and then %q", first.made, second.made)
		}
		for _, name := range first.made {
			if a, b := read(t, first, name), read(t, second, name); !bytes.Equal(a, b) {
				t.Errorf("%s has other bytes the second time", name)
			}
		}
	})
	t.Run("sums", func(t *testing.T) { command(t, first.out, "sha256sum", "--check", "--strict", "SHA256SUMS") })
	t.Run("tarball", first.testTarball)
	t.Run("deb", first.testDeb)
	t.Run("rpm", first.testRPM)
	t.Run("image", first.testImage)
	t.Run("contents", first.testContents)
}

func made(t *testing.T) *release {
	r := &release{source: "../..", out: t.TempDir(), version: testVersion}
	if err := r.make(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *release) testTarball(t *testing.T) {
	root := t.TempDir()
	command(t, root, "tar", "--strip-components=1", "-xzf", r.path(".tar.gz", runtime.GOARCH))
	r.testInstalled(t, root, zshPath)
	binary, err := os.ReadFile(filepath.Join(root, binaryPath))
	if err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(binary))
	if !bytes.Contains(read(t, r, "procmem-"+testVersion+"-linux-"+runtime.GOARCH+".cdx.json"), []byte(sum)) {
		t.Error("the bill of materials has another checksum of the binary")
	}
	command(t, root, "tar", "-tzf", r.path(".tar.gz", "arm64"), "procmem-"+testVersion+"-linux-arm64/"+binaryPath)
}

// pages are some of the documents, of each folder.
var pages = []string{docPath + "/README.md", docPath + "/docs/pause.md", docPath + "/docs/design/pausing.md"}

func (r *release) testDeb(t *testing.T) {
	need(t, "dpkg")
	root := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	listed := command(t, "", "dpkg-deb", "--contents", r.path(".deb", runtime.GOARCH)) // dpkg may be told to leave documents out
	for _, page := range pages {
		if !strings.Contains(listed, " ./usr/"+page+"\n") {
			t.Errorf("%s is not in the package:\n%s", page, listed)
		}
	}
	for _, arch := range arches {
		before := filesIn(t, root, "usr")
		command(t, "", "dpkg", "--root="+root, "--log=/dev/null", "--force-not-root", "--force-architecture", "--install", r.path(".deb", arch))
		if arch == runtime.GOARCH {
			r.testInstalled(t, filepath.Join(root, "usr"), "share/zsh/vendor-completions/_procmem")
		}
		command(t, "", "dpkg", "--root="+root, "--log=/dev/null", "--force-not-root", "--remove", "procmem:"+arch)
		if left := filesIn(t, root, "usr"); !slices.Equal(left, before) {
			t.Errorf("%s: left behind: %q", arch, left)
		}
	}
}

func (r *release) testRPM(t *testing.T) {
	need(t, "rpm")
	if os.Getuid() != 0 {
		t.Skip("rpm --root wants root")
	}
	for arch, name := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
		root := t.TempDir()
		rpm := func(args ...string) { command(t, "", "rpm", append([]string{"--root", root}, args...)...) }
		rpm("--initdb")
		rpm("--install", "--force-debian", "--ignorearch", r.path(".rpm", name))
		if arch == runtime.GOARCH {
			r.testInstalled(t, filepath.Join(root, "usr"), zshPath)
		}
		rpm("--verify", "--nodeps", "procmem")
		rpm("--erase", "--force-debian", "procmem")
		if left := filesIn(t, root, "usr"); len(left) > 0 {
			t.Errorf("%s: left behind: %q", arch, left)
		}
	}
}

// testInstalled tries what was installed into usr.
func (r *release) testInstalled(t *testing.T, usr, zsh string) {
	t.Helper()
	out := command(t, "", filepath.Join(usr, binaryPath), "--version")
	if !strings.Contains(out, testVersion) {
		t.Errorf("--version prints %q", out)
	}
	target := exec.Command("sleep", "60")
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer target.Wait()
	defer target.Process.Kill()
	if out := command(t, "", filepath.Join(usr, binaryPath), "maps", strconv.Itoa(target.Process.Pid)); !strings.Contains(out, "sleep") {
		t.Errorf("maps prints %q", out)
	}
	want := []string{binaryPath, bashPath, zsh, fishPath, copyrightPath, manPath + "/procmem.1.gz", manPath + "/procmem-core.1.gz"}
	got := filesIn(t, usr, ".")
	for _, path := range want {
		if !slices.Contains(got, path) {
			t.Errorf("%s is not installed, but %q", path, got)
		}
	}
	if info, err := os.Stat(filepath.Join(usr, binaryPath)); err == nil && info.Size() > maxBinary {
		t.Errorf("the binary has %d bytes, more than %d: docs/decisions.md says what it is made of, and what makes it large", info.Size(), maxBinary)
	}
}

// maxBinary is the size of the binary when all that nobody calls is left out, and some room.
const maxBinary = 14 << 20

func (r *release) testImage(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(r.out, "procmem-"+testVersion+"-oci.tar")
	command(t, dir, "tar", "-xf", name)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Fatal(err)
	}
	need(t, "skopeo")
	for _, arch := range arches {
		dir := t.TempDir()
		command(t, "", "skopeo", "--insecure-policy", "--override-arch", arch, "copy", "oci-archive:"+name, "oci:"+dir+":x")
		config := command(t, "", "skopeo", "inspect", "--config", "oci:"+dir+":x")
		for _, want := range []string{`"architecture":"` + arch + `"`, `"Entrypoint":["/procmem"]`} {
			if !strings.Contains(strings.Join(strings.Fields(config), ""), want) {
				t.Errorf("%s is not in %s", want, config)
			}
		}
		if got := layerFiles(t, dir); !slices.Equal(got, []string{"procmem"}) {
			t.Errorf("the image has %q", got)
		}
	}
}

// layerFiles lists what is in the layers of the only image of a layout.
func layerFiles(t *testing.T, dir string) (names []string) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		for tr := tar.NewReader(rc); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
		}
	}
	return names
}

func (r *release) testContents(t *testing.T) {
	for _, arch := range arches {
		var bom cdx.BOM
		b := read(t, r, "procmem-"+testVersion+"-linux-"+arch+".cdx.json")
		if err := cdx.NewBOMDecoder(bytes.NewReader(b), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range *bom.Components {
			names = append(names, c.Name)
		}
		for _, want := range []string{"std", "github.com/spf13/cobra", "golang.org/x/sys"} {
			if !slices.Contains(names, want) {
				t.Errorf("%s: %s is not in %q", arch, want, names)
			}
		}
	}
}

// TestInstall installs, runs and removes with make.
func TestInstall(t *testing.T) {
	root := t.TempDir()
	make := func(target string, more ...string) {
		command(t, "../..", "make", append([]string{target, "DESTDIR=" + root, "PREFIX=/opt/p"}, more...)...)
	}
	make("build")
	defer syscall.Umask(syscall.Umask(0o077))
	make("install", "GCORE=1")
	usr := filepath.Join(root, "opt/p")
	got := filesIn(t, usr, ".")
	for _, path := range []string{binaryPath, bashPath, zshPath, fishPath, "bin/gcore", manPath + "/procmem.1", manPath + "/procmem-core.1"} {
		if !slices.Contains(got, path) {
			t.Errorf("%s is not installed, but %q", path, got)
		}
		if info, err := os.Stat(filepath.Join(usr, path)); err == nil && info.Mode()&0o044 != 0o044 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	if out := command(t, "", filepath.Join(usr, "bin/gcore"), "-v"); !strings.HasPrefix(out, "gcore ") {
		t.Errorf("gcore -v prints %q", out)
	}
	testZsh(t, filepath.Join(usr, filepath.Dir(zshPath)))
	make("uninstall")
	if left := filesIn(t, root, "."); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	// A gcore of somebody else stays.
	other := filepath.Join(usr, "bin/gcore")
	if err := os.WriteFile(other, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	make("uninstall")
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

// testZsh has zsh find the completion in a folder of its path.
func testZsh(t *testing.T, dir string) {
	need(t, "zsh")
	out := command(t, "", "zsh", "-fc", `fpath=("$1" $fpath); autoload -U compinit; compinit -D -u; echo $_comps[procmem]`, "zsh", dir)
	if strings.TrimSpace(out) != "_procmem" {
		t.Errorf("zsh completes procmem with %q", out)
	}
}

// A commit without a tag is called a development version of the next release, as go build does.
func TestUntaggedVersion(t *testing.T) {
	source, root := "../..", t.TempDir()
	for _, name := range []string{"Makefile", "cmd/procmem/globals.go"} {
		b, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command(t, root, "git", "init", "-q")
	command(t, root, "git", "add", ".")
	command(t, root, "git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x")
	if out := command(t, root, "make", "--no-print-directory", "-n", "build"); !regexp.MustCompile(`main\.version=\d+\.\d+\.\d+-dev-[0-9a-f]{7,}'`).MatchString(out) {
		t.Errorf("make runs %s", out)
	}
	command(t, root, "git", "tag", "v1.2.3")
	if out := command(t, root, "make", "--no-print-directory", "-n", "build"); !strings.Contains(out, "main.version=v1.2.3'") {
		t.Errorf("make runs %s", out)
	}
}

func TestPackageVersion(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2": "1.2", "v1.2.3-4-gabc": "1.2.3+4.gabc", "v1.2.3-4-gabc-dirty": "1.2.3+4.gabc.dirty",
		"abc1234": "0.0~00010101000000.abc1234", "v1.2.3-dirty": "1.2.3+dirty", "v1.3.0-rc1": "1.3.0~rc1",
		"0.1.0-dev-abc1234": "0.1.0~dev00010101000000.abc1234", "0.1.0-dev-abc1234-dirty": "0.1.0~dev00010101000000.abc1234.dirty",
	} {
		if got := (&release{version: version}).packageVersion(); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}

// path returns the only file of this kind and arch.
func (r *release) path(suffix, arch string) string {
	for _, name := range r.made {
		if strings.HasSuffix(name, arch+suffix) {
			path, err := filepath.Abs(filepath.Join(r.out, name))
			if err == nil {
				return path
			}
		}
	}
	return "nothing-made-for-" + arch + suffix
}

func read(t *testing.T, r *release, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(r.out, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// filesIn lists the files and links below a folder, by their paths from there.
func filesIn(t *testing.T, root, dir string) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == dir {
			return nil
		}
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// command runs a program that must succeed, and returns what it prints.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, &stderr)
	}
	return string(out)
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("PROCMEM_TEST_ALL") != "" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
}
