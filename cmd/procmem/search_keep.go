package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// keptBefore returns where the file of candidates is kept that a newer one has replaced.
func keptBefore(path string) string { return path + ".before" }

// replaceKeeping has commit give a new file the name path. The file that has it is kept, in the
// place of the one that was kept so far.
func replaceKeeping(path string, commit func() error) error {
	err := os.Rename(path, keptBefore(path))
	if errors.Is(err, fs.ErrNotExist) {
		return commit()
	}
	if err != nil {
		return err
	}
	if err := commit(); err != nil {
		return errors.Join(err, os.Rename(keptBefore(path), path))
	}
	return nil
}

// undoSave brings back the file of candidates that the last --save has replaced.
func undoSave(path string) error {
	held, err := holdsCandidates(keptBefore(path))
	if err == nil && !held {
		err = fmt.Errorf("nothing to undo: no file is kept from before %s; --save keeps the one that it replaces, and no more", path)
	}
	if err == nil {
		_, err = holdsCandidates(path)
	}
	if err == nil {
		err = os.Rename(keptBefore(path), path)
	}
	if err != nil {
		return err
	}
	notice("%s holds the candidates from before the last --save again", path)
	return nil
}
