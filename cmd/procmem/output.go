package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/term"
)

// printJSON writes one object on a line of stdout.
func printJSON(v any) error { return writeJSON(os.Stdout, v) }

func writeJSON(w io.Writer, v any) error {
	return stdoutError(newJSONEncoder(w).Encode(v))
}

// newJSONEncoder returns the encoder of all JSON output.
func newJSONEncoder(w io.Writer) *json.Encoder {
	enc := json.NewEncoder(term.JSON(w))
	enc.SetEscapeHTML(false)
	return enc
}

// stdoutError is the error of a listing: its reader may go, without a word.
func stdoutError(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return errReaderGone
	}
	return err
}

// streamError is the error of a file that stdout was to become. Its reader must not go.
func streamError(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return errors.New(errReaderGone.Error())
	}
	return err
}

// mostLines is how many lost parts are printed one by one, where there may be any number.
const mostLines = 20

// missing is a range that could not be read, in JSON.
type missing struct {
	procmem.Range
	Bytes uint64 `json:"bytes"`
	Error string `json:"error"`
}

func missingOf(faults []procmem.Fault) []missing {
	out := make([]missing, 0, len(faults))
	for _, f := range faults {
		out = append(out, missing{f.Range, f.Size(), f.Err.Error()})
	}
	return out
}

// tellFault prints a range that could not be read.
func tellFault(f procmem.Fault) {
	term.Fprintf(os.Stderr, "%v: %v (%s)\n", f.Start, f.Err, bytesOf(f.Size()))
}

// bytesOf returns an exact number of bytes as text.
func bytesOf(n uint64) string {
	if n == 1 {
		return "1 byte"
	}
	return strconv.FormatUint(n, 10) + " bytes"
}
