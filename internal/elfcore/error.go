package elfcore

import "fmt"

// FormatError reports that headers or notes are none, or contradict themselves.
type FormatError struct {
	Off int64 // offset in the file, in bytes
	Msg string
}

func (e *FormatError) Error() string { return fmt.Sprintf("offset %#x: %s", e.Off, e.Msg) }
