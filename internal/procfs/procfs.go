// Package procfs parses what files below /proc print: text in, values out. Package process
// opens the files.
//
// No process is needed, and nothing here blocks but the reader that is parsed. A process
// decides what much of the text says: its name, the paths that it maps, its arguments. So the
// memory that a parser takes is bounded, whatever the text. Sources are proc(5) and, where that
// is silent, the function of the kernel that prints the file.
package procfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxLine bounds how many bytes of one line are kept. A path may be longer than any that can be
// opened, if its folders were made one in the other. A line beyond it is cut off.
const maxLine = 64 << 10

// cutMark ends what was cut off, so that it is not taken for a name.
const cutMark = "…"

// eachLine calls f with each line, without its newline. Of a line longer than maxLine, f gets
// the beginning.
func eachLine(r io.Reader, what string, f func([]byte) error) error {
	in := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err == nil || errors.Is(err, io.EOF) {
			if err := f(line); err != nil {
				return fmt.Errorf("parse %s: line %d: %w", what, n, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("parse %s: line %d: %w", what, n, err)
		}
	}
}

// readLine returns the next line, which is valid until the next call. The error is nil if there
// was a newline.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	line = append(bytes.Clone(line), cutMark...)
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = in.ReadSlice('\n')
	}
	return line, err
}

// ReadSmall reads a file of one line, which it returns as it is. It fails if there are more
// than 64 KiB.
func ReadSmall(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxLine+1))
	if err == nil && len(b) > maxLine {
		err = errors.New("too long")
	}
	return b, err
}

// parseKB reads " 12 kB" into bytes.
func parseKB(b []byte, dst *uint64) error {
	num, ok := bytes.CutSuffix(bytes.TrimLeft(b, " \t"), []byte(" kB"))
	v, err := parseUint(num, 10, 54)
	if !ok || err != nil {
		return fmt.Errorf("%q: want a size in kB", b)
	}
	*dst = v << 10
	return nil
}

// parseUint is strconv.ParseUint for bytes, with the reason alone as error.
func parseUint(b []byte, base, bits int) (uint64, error) {
	v, err := strconv.ParseUint(string(b), base, bits)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	return v, nil
}

// ParseCoredumpFilter reads the text of /proc/PID/coredump_filter (core(5)). It returns the
// bits, and fails if they are no hexadecimal number.
func ParseCoredumpFilter(b []byte) (uint32, error) {
	v, err := parseUint(bytes.TrimSpace(b), 16, 32)
	return uint32(v), err
}
