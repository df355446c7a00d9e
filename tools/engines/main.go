// Command engines measures the regexp engine of procmem search beside those that it could have
// used. It prints a table in Markdown: MB/s of one processor, by processor time, the best of
// three.
//
// It is a module of its own so that procmem does not depend on what it measures.
package main

import (
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/procmem/procmem/internal/dfa"
	re2 "github.com/wasilibs/go-re2"
	"github.com/wasilibs/go-re2/experimental"
)

var exprs = []string{
	`[a-z]+@example\.com`,
	`[0-9a-f]{32}`,
	`(?i)password\s*[:=]\s*\S+`,
	`\b\d{1,3}(\.\d{1,3}){3}\b`,
	`error|warning|fatal`,
	`-----BEGIN [A-Z ]+-----`,
	`[a-z]+`,
}

func main() {
	log.SetFlags(0)
	text, err := mixed(32 << 20)
	if err != nil {
		log.Fatal("engines: ", err)
	}
	fmt.Println("| expression | internal/dfa | RE2 | RE2, Latin-1 | regexp |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	for _, expr := range exprs {
		compiled, err := dfa.Compile(expr, dfa.Options{})
		if err != nil {
			log.Fatalf("engines: %s: %v", expr, err)
		}
		ours := compiled.Clone()
		find := []func(b []byte){
			func(b []byte) {
				_, end, ok := ours.Find(b, 0)
				for ok {
					_, end, ok = ours.Next(b, end)
				}
			},
			inBlocks(re2.MustCompile(expr)),
			inBlocks(experimental.MustCompileLatin1(expr)),
			inBlocks(regexp.MustCompile(expr)),
		}
		fmt.Printf("| `%s` |", strings.ReplaceAll(expr, "|", `\|`))
		for _, f := range find {
			fmt.Printf(" %.0f |", best(text, f))
		}
		fmt.Println()
	}
}

// inBlocks has an engine look at blocks of 2 MiB, as search would.
func inBlocks(re interface{ FindAllIndex([]byte, int) [][]int }) func(b []byte) {
	const block = 2 << 20
	return func(b []byte) {
		for ; len(b) > 0; b = b[min(block, len(b)):] {
			re.FindAllIndex(b[:min(block, len(b))], -1)
		}
	}
}

// best returns MB/s.
func best(text []byte, f func([]byte)) (speed float64) {
	f(text[:len(text)/16])
	for range 3 {
		start := processorTime()
		f(text)
		speed = max(speed, float64(len(text))/1e6/(processorTime()-start).Seconds())
	}
	return speed
}

func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		log.Fatal("engines: getrusage: ", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// mixed returns size bytes, of which one half is the source of Go and the other one random, in
// turns of 64 KiB.
func mixed(size int) ([]byte, error) {
	const turn = 64 << 10
	var source []byte
	err := filepath.WalkDir(filepath.Join(runtime.GOROOT(), "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		if len(source) >= size/2 {
			return fs.SkipAll
		}
		text, err := os.ReadFile(path)
		source = append(source, text...)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(source) < size/2 {
		return nil, fmt.Errorf("%d bytes of source of Go, %d wanted", len(source), size/2)
	}
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 0, size)
	for at := 0; len(b) < size; at += turn {
		b = append(b, source[at:at+turn]...)
		for end := len(b) + turn; len(b) < end; {
			b = append(b, byte(r.Uint32()))
		}
	}
	return b, nil
}
