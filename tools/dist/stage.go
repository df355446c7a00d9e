package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Where the files are below /usr or /usr/local: where make install puts them.
const (
	binaryPath    = "bin/procmem"
	manPath       = "share/man/man1"
	bashPath      = "share/bash-completion/completions/procmem"
	zshPath       = "share/zsh/site-functions/_procmem"
	fishPath      = "share/fish/vendor_completions.d/procmem.fish"
	copyrightPath = docPath + "/copyright"
)

// in returns the path of a staged file.
func (r *release) in(arch, path string) string { return filepath.Join(r.stage, arch, path) }

// fillStage builds the binaries, and writes what goes with each.
func (r *release) fillStage() error {
	for _, arch := range arches {
		if err := r.build(arch); err != nil {
			return err
		}
	}
	for _, arch := range arches {
		for _, step := range []func(string) error{r.man, r.completion, r.copyright, r.docs} {
			if err := step(arch); err != nil {
				return err
			}
		}
	}
	return nil
}

// build makes the static binary, as make build does.
func (r *release) build(arch string) error {
	out, err := filepath.Abs(r.in(arch, binaryPath))
	if err != nil {
		return err
	}
	cmd := exec.Command("make", "--no-print-directory", "-C", r.source, "build", "BINARY="+out, "VERSION="+r.version)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build procmem for %s: %w", arch, err)
	}
	return nil
}

// run runs the binary of this machine, which knows its own man pages and completion.
func (r *release) run(args ...string) ([]byte, error) {
	cmd := exec.Command(r.in(runtime.GOARCH, binaryPath), args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.time.Unix()))
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmd, err)
	}
	return b, nil
}

// man writes the man pages, compressed as distributions have them.
func (r *release) man(arch string) error {
	plain, err := os.MkdirTemp(r.stage, "man-")
	if err != nil {
		return err
	}
	if _, err := r.run("man", plain); err != nil {
		return err
	}
	pages, err := os.ReadDir(plain)
	if err != nil {
		return err
	}
	for _, page := range pages {
		b, err := os.ReadFile(filepath.Join(plain, page.Name()))
		if err != nil {
			return err
		}
		if b, err = gzipped(b); err != nil {
			return err
		}
		if err := r.put(arch, filepath.Join(manPath, page.Name()+".gz"), b); err != nil {
			return err
		}
	}
	return os.RemoveAll(plain)
}

// completion writes what makes each shell complete.
func (r *release) completion(arch string) error {
	for shell, path := range map[string]string{"bash": bashPath, "zsh": zshPath, "fish": fishPath} {
		b, err := r.run("completion", shell)
		if err != nil {
			return err
		}
		if err := r.put(arch, path, b); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) put(arch, path string, b []byte) error {
	name := r.in(arch, path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o644)
}

func gzipped(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
