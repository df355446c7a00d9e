// Package refusal lets package process word a refusal of the kernel as package access does.
// Access knows the rules but imports process, so it registers what turns a refusal into a
// sentence.
//
// In a program that imports access, as one does that uses target, the text of such an error is
// the cause and the remedy. In any other it is that of the errno. The sentence is made when the
// text is asked for. It takes a look at the process and at all rules, and most refusals are
// passed over.
package refusal

import (
	"errors"
	"io/fs"
	"sync"
)

// explain returns the sentence for a refusal, "" if no rule explains it.
var explain func(pid int, err error) string

// Register sets what explains refusals. It belongs into an init.
func Register(f func(pid int, err error) string) { explain = f }

// Error is a refusal of the kernel to show a process.
type Error struct {
	PID int
	Err error // of the system call

	once sync.Once
	text string
}

// Of returns err as an *Error if it is a refusal, EACCES or EPERM, and err itself if not.
func Of(pid int, err error) error {
	if _, known := errors.AsType[*Error](err); known || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return &Error{PID: pid, Err: err}
}

// Error returns the cause and the remedy as far as they are known. It is safe for concurrent
// use.
func (e *Error) Error() string {
	e.once.Do(func() {
		e.text = e.Err.Error()
		if explain == nil {
			return
		}
		if why := explain(e.PID, e.Err); why != "" {
			e.text = why
		}
	})
	return e.text
}

func (e *Error) Unwrap() error { return e.Err }
