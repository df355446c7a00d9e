package snapshot

import (
	"errors"
	"slices"
)

// cleanup is a list of functions that undo what was done, oldest first.
type cleanup []func() error

// add has run call f, before what was added earlier.
func (c *cleanup) add(f func() error) { *c = append(*c, f) }

// run undoes everything once, newest first, and returns what could not be undone.
func (c *cleanup) run() error {
	var errs []error
	for _, undo := range slices.Backward(*c) {
		errs = append(errs, undo())
	}
	*c = nil
	return errors.Join(errs...)
}
