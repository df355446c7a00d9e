package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// unforced adds a remedy to an error of a file that exists.
func unforced(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w (use --force to replace it)", err)
	}
	return err
}

// orElsewhere adds another place to an error of a core at path whose folder cannot be written to.
// prefix is what puts it into a folder that can.
func orElsewhere(path, prefix string, err error) error {
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) || writableFolder(path) == nil {
		return err
	}
	return fmt.Errorf("%w: choose another folder, as with -o %s", err, prefix)
}

// writableFolder returns the error of making a file called path in its folder. The dot makes sure
// that it is a folder.
func writableFolder(path string) error {
	return unix.Faccessat(unix.AT_FDCWD, filepath.Dir(path)+"/.", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}
