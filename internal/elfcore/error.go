package elfcore

import "fmt"

// FormatError reports bytes that are no header of an ELF file, or headers and notes that
// contradict themselves.
type FormatError struct {
	Off int64 // offset in the file, in bytes
	Msg string
}

func (e *FormatError) Error() string { return fmt.Sprintf("offset %#x: %s", e.Off, e.Msg) }
