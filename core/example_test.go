package core_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/core"
)

// greeting is a Memory of one page.
type greeting struct{}

const greetingAt = procmem.Addr(0x10000)

func (greeting) Mappings() ([]procmem.Mapping, error) {
	return []procmem.Mapping{{
		Range: procmem.Range{Start: greetingAt, End: greetingAt + procmem.PageSize},
		Perm:  procmem.PermRead | procmem.PermWrite,
		Path:  "[heap]",
	}}, nil
}

func (greeting) ReadAt(p []byte, addr procmem.Addr) (int, error) {
	if addr < greetingAt || addr >= greetingAt+procmem.PageSize {
		return 0, &procmem.FaultError{Addr: addr, Err: procmem.ErrNotMapped}
	}
	content := make([]byte, procmem.PageSize)
	copy(content, "hello from a process")
	n := copy(p, content[addr-greetingAt:])
	if n < len(p) {
		return n, &procmem.FaultError{Addr: addr + procmem.Addr(n), Err: procmem.ErrNotMapped}
	}
	return n, nil
}

// image describes the process that greeting is the memory of.
func image() *procmem.Image {
	maps, _ := greeting{}.Mappings()
	return &procmem.Image{
		Arch:     procmem.AMD64,
		Process:  procmem.ProcessInfo{PID: 42, State: 'S', Name: "greeter"},
		Mappings: maps,
		Threads:  []procmem.Thread{{TID: 42}},
	}
}

// Write a core to a file, open it and read from it.
func Example() {
	dir, err := os.MkdirTemp("", "core")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "core.42")

	mem, img := greeting{}, image()
	file, err := os.Create(path)
	if err != nil {
		log.Fatal(err)
	}
	w, err := core.NewFileWriter(file, img.Arch, core.Select(img, mem, core.FilterDefault))
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Copy(context.Background(), mem); err != nil {
		log.Fatal(err)
	}
	if err := w.Finish(img, &core.Report{Method: "stop", Consistent: true}); err != nil {
		log.Fatal(err)
	}
	if err := file.Close(); err != nil {
		log.Fatal(err)
	}

	c, err := core.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	maps, _ := c.Mappings()
	word := make([]byte, 5)
	if _, err := c.ReadAt(word, maps[0].Start); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s of process %d begins with %q\n", maps[0].Path, c.Image().Process.PID, word)
	_, err = c.ReadAt(word, 0xdead000)
	fmt.Println(err)
	// Output:
	// [heap] of process 42 begins with "hello"
	// 0xdead000: not mapped
}

// Write a core to a stream, front to back.
func ExampleNewStreamWriter() {
	mem, img := greeting{}, image()
	var stream bytes.Buffer
	w, err := core.NewStreamWriter(&stream, img, core.Select(img, mem, core.FilterDefault))
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Copy(context.Background(), mem); err != nil {
		log.Fatal(err)
	}
	report := core.Report{Method: "live", InconsistentReason: "the process was running"}
	if err := w.Finish(img, &report); err != nil {
		log.Fatal(err)
	}
	fmt.Println("as long as the report says:", int64(stream.Len()) == report.FileBytes)
	fmt.Println("bytes of memory:", report.MemoryBytes)
	fmt.Println("ranges that could not be read:", len(report.Missing))
	// Output:
	// as long as the report says: true
	// bytes of memory: 4096
	// ranges that could not be read: 0
}
