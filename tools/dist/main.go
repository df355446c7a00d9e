// Command dist makes what a release of procmem consists of, for amd64 and arm64:
// archives, packages, an image of a container, lists of what is inside, and checksums.
//
// The same commit gives the same bytes, with the same version of Go. Start with (*release).make.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

var arches = []string{"amd64", "arm64"}

// release is what is made of one commit.
type release struct {
	source  string    // folder of the main module
	out     string    // folder of what is made
	version string    // as git describes the commit
	time    time.Time // of the commit; every file has it
	stage   string    // a folder of files before they are packed, one subfolder for each arch
	made    []string  // names in out
}

func main() {
	r := &release{}
	flag.StringVar(&r.source, "source", "../..", "folder of the main module")
	flag.StringVar(&r.out, "out", "../../dist", "folder for what is made")
	flag.StringVar(&r.version, "version", "", "version of the release, as git describe prints it")
	flag.Parse()
	if err := r.make(); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// make makes everything.
func (r *release) make() (err error) {
	switch {
	case r.version == "":
		return errors.New("-version is missing: make dist gives it")
	case !slices.Contains(arches, runtime.GOARCH):
		return fmt.Errorf("the man pages are written by the binary, which is not made for %s", runtime.GOARCH)
	}
	if r.time, err = commitTime(r.source); err != nil {
		return err
	}
	if r.stage, err = os.MkdirTemp("", "procmem-dist-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.stage)
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if err := r.fillStage(); err != nil {
		return err
	}
	for _, arch := range arches {
		for _, step := range []func(string) error{r.archive, r.packages, r.contents} {
			if err := step(arch); err != nil {
				return err
			}
		}
	}
	if err := r.image(); err != nil {
		return err
	}
	return r.sums()
}

// commitTime is SOURCE_DATE_EPOCH, or else the time of the last commit.
func commitTime(source string) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		b, err := exec.Command("git", "-C", source, "log", "-1", "--format=%ct").Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("set SOURCE_DATE_EPOCH, because git does not know the time of the commit: %w", err)
		}
		text = strings.TrimSpace(string(b))
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(n, 0).UTC(), nil
}

// create makes a file of the release.
func (r *release) create(name string) (*os.File, error) {
	r.made = append(r.made, name)
	return os.Create(filepath.Join(r.out, name))
}
