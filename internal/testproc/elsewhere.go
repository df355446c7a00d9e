package testproc

import (
	"os"
	"path/filepath"
	"time"
)

// Built is the name of an environment variable. Its value is a folder of helper programs that
// are compiled already, each with the name of its Variant. That is for a machine without a
// compiler, where all other variants count as missing.
const Built = "PROCMEM_TEST_HELPERS"

// Deadline returns how long anything may take: a minute, on a machine that is busy. One that has
// its helper programs from elsewhere may be an emulated one, and has ten.
func Deadline() time.Duration {
	if os.Getenv(Built) != "" {
		return 10 * time.Minute
	}
	return time.Minute
}

func built(dir string, v Variant) (string, error) {
	path := filepath.Join(dir, v.String())
	if _, err := os.Stat(path); err != nil {
		return "", &missingError{v.Toolchain, err}
	}
	return path, nil
}

// BuildFor compiles a program of C for another machine, and returns its path. The compiler is a
// program and the flags by which it knows that machine.
func BuildFor(v Variant, compiler ...string) (string, error) {
	return buildBy(append(compiler, cFlags...), v)
}

// BuildGoFor is BuildFor for a program in Go; arch is a GOARCH.
func BuildGoFor(v Variant, arch string) (string, error) {
	return buildBy([]string{"env", "GOARCH=" + arch, "go", "build"}, v)
}
