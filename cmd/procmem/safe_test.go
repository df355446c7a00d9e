package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/procmem/procmem/internal/testproc"
)

// hostileNames are names of files, programs and threads.
var hostileNames = []string{"\x1b[31mred", "new\nline", "back\u202ewards", "del\x7fete", "inva\xfflid", "csi\xc2\x9b31m", "bell\a\r\t"}

// harmful returns the first thing in an output that a terminal, or a reader,
// could be misled by.
func harmful(out string) string {
	for i, r := range out {
		switch {
		case r == '\n':
		case r == utf8.RuneError && !strings.HasPrefix(out[i:], "\ufffd"):
			return fmt.Sprintf("byte %#x", out[i])
		case r < ' ', r >= 0x7f && !unicode.IsPrint(r):
			return fmt.Sprintf("%U", r)
		}
	}
	return ""
}

// Whatever the names of a process are, its files' and its threads', no command
// prints them as they are.
func TestHostileNames(t *testing.T) {
	p := testproc.Start(t, testproc.Odd)
	for _, name := range hostileNames {
		p.Cmd(t, "map %x", name)
		p.Cmd(t, "thread %x", name[:min(len(name), 15)])
	}
	// The program has such a name too, and two processes have it.
	path := filepath.Join(t.TempDir(), "pro\x1b[1mgram\n\u202e\x7f\xff")
	b, err := os.ReadFile(p.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	p.Send(t, "exec %x %x", path, "arg\x1b]0;title\a\n\u202e\xff")
	p.ReadFacts(t)
	at := ""
	for _, name := range hostileNames {
		at = p.Cmd(t, "map %x", name)
		p.Cmd(t, "thread %x", name[:min(len(name), 15)])
	}
	twin := testproc.Start(t, testproc.Odd)
	twin.Send(t, "exec %x %x", path, "twin\x1b[2J")
	twin.ReadFacts(t)
	pid := strconv.Itoa(p.PID())
	dir := t.TempDir()
	t.Chdir(dir)
	base := filepath.Base(path)

	commands := [][]string{
		{"maps", "TARGET"}, {"threads", "TARGET"}, {"threads", "-r", "TARGET"}, {"info", "TARGET"}, {"doctor", pid}, {"strings", "TARGET", "--in", at + "+64"},
		{"read", "TARGET", at + "+64", "-f", "hex"}, {"read", "TARGET", at + "+64", "-f", "str"}, {"read", "TARGET", at + "+64", "--follow"}, {"read", "TARGET", "[stack]", "--follow"}, {"read", "TARGET", "[stack]", "--format", "ptr"},
		{"read", "TARGET", "nothing"}, {"read", "TARGET", "line"}, {"read", "TARGET", "new\nline", "-f", "hex"}, {"read", "TARGET", "sym:main\x1b"}, {"read", "TARGET", "re"},
		{"search", "TARGET", "odd page"}, {"search", "TARGET", "--pointer-to", at + "+4096"}, {"search", "TARGET", "--pointer-to", "[stack]"},
		{"search", "TARGET", "--pointer-to", base}, {"search", "TARGET", "--pointer-to", "new\nline"}, {"search", "TARGET", "--pointer-to", "\x1b[31mred"}, {"search", "TARGET", "odd page", "--context", "16"},
		{"search", "TARGET", "odd page", "arg\x1b", "--count"}, {"search", "TARGET", "--type", "u64", at, "--save", "hits\x1b"},
		{"diff", "TARGET", strconv.Itoa(twin.PID())}, {"diff", "TARGET", strconv.Itoa(twin.PID()), "--hex"}, {"diff", "TARGET", "--after", "1ms"}, {"dump", "TARGET", "-o", "du\x1bmp\n"},
		{"core", "-o", "co\x1bre\n", pid}, {"core", "-o", "none\x1b/x", pid}, {"maps", base}, {"doctor", base}, {"maps", "none\x1b\n"}, {"maps", "./none\x1b\n"},
		{"verify", "CORE"}, {"pack", "CORE", "-o", "pa\x1bck\n"}, {"unpack", "pa\x1bck\n", "-o", "un\x1bpack\n"}, {"bad\x1b\n"}, {"maps", "--bad\x1b\n"}, {"maps", "1", "2\x1b"},
	}
	core := filepath.Join(dir, "core."+pid)
	if _, msg, status := procmemCommand(t, "core", pid); status != 0 && status != 3 {
		t.Fatal(msg)
	}
	ran, spoke := 0, 0
	for _, args := range commands {
		for _, tgt := range []string{pid, core} {
			for _, format := range []string{"", "--json", "--color=always"} {
				argv := []string{}
				live := false
				for _, a := range args {
					live = live || a == pid || a == "TARGET"
					a = strings.ReplaceAll(strings.ReplaceAll(a, "TARGET", tgt), "CORE", core)
					argv = append(argv, a)
				}
				if tgt == core && !strings.Contains(strings.Join(args, " "), "TARGET") || live && tgt == core && args[len(args)-1] == "1ms" {
					continue
				}
				if format != "" {
					argv = append(argv, format)
				}
				for _, left := range []string{"du\x1bmp\n", "co\x1bre\n." + pid, "pa\x1bck\n", "un\x1bpack\n", "hits\x1b"} {
					if args[0] != "unpack" {
						os.RemoveAll(filepath.Join(dir, left))
					}
				}
				if args[0] == "unpack" {
					os.Remove(filepath.Join(dir, "un\x1bpack\n"))
				}
				out, msg, _ := procmemCommand(t, argv...)
				if format == "--color=always" {
					out = sgrOf.ReplaceAllString(out, "")
				}
				ran++
				if strings.Contains(out+msg, `\x1b`) || strings.Contains(out, `\u001b`) {
					spoke++
				}
				if bad := harmful(out); bad != "" {
					t.Errorf("%q: stdout has %s: %q", argv, bad, out[:min(len(out), 2000)])
				}
				if bad := harmful(msg); bad != "" {
					t.Errorf("%q: stderr has %s: %q", argv, bad, msg[:min(len(msg), 2000)])
				}
				// A name that begins a line of its own would be one that procmem says.
				for line := range strings.Lines(msg) {
					if !ownLine.MatchString(line) {
						t.Errorf("%q: stderr has the line %q", argv, line)
					}
				}
				if format == "--json" && strings.HasPrefix(out, "{") {
					dec := json.NewDecoder(strings.NewReader(out))
					for dec.More() {
						var v any
						if err := dec.Decode(&v); err != nil {
							t.Errorf("%q: %v", argv, err)
							break
						}
					}
				}
			}
		}
	}
	if spoke < ran/6 {
		t.Errorf("of %d commands %d have told a hostile name", ran, spoke)
	}
	// The search for pointers did find some, with names.
	if out, _, status := procmemCommand(t, "search", pid, "--pointer-to", base); status != 0 || strings.Count(out, `\x1b[1mgram`) < 2 {
		t.Errorf("no pointer to the program: %d, %q", status, out[:min(len(out), 500)])
	}
}

// ownLine is how lines on stderr begin: a message, one of a list of processes, or
// memory that could not be read.
var ownLine = regexp.MustCompile("^(procmem: |  [0-9]+ |0x[0-9a-f]+: )")

// sgrOf is a colour.
var sgrOf = regexp.MustCompile("\x1b\\[[0-9;]*m")

// JSON has the names as they are, once it has been decoded.
func TestHostileJSON(t *testing.T) {
	p := testproc.Start(t, testproc.Odd)
	for _, name := range hostileNames {
		p.Cmd(t, "map %x", name)
	}
	out, msg, status := procmemCommand(t, "maps", "--json", strconv.Itoa(p.PID()))
	if status != 0 {
		t.Fatal(msg)
	}
	var maps struct {
		Mappings []struct {
			Path string `json:"path"`
		} `json:"mappings"`
	}
	if err := json.Unmarshal([]byte(out), &maps); err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	for _, m := range maps.Mappings {
		paths[m.Path] = true
	}
	for _, name := range hostileNames {
		if want := filepath.Join(p.Dir, strings.ToValidUTF8(name, "\ufffd")); !paths[want] {
			t.Errorf("no %q", want)
		}
	}
}

// All that people read is printed by package term, which makes it harmless. What
// is not is listed here.
func TestNothingElsePrints(t *testing.T) {
	allowed := map[string]bool{
		"progress.go: fmt.Fprint": true, // control sequences of its own, and names of phases
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := x.Name + "." + sel.Sel.Name
			raw := x.Name == "fmt" && (strings.HasPrefix(sel.Sel.Name, "Print") || strings.HasPrefix(sel.Sel.Name, "Fprint")) ||
				name == "json.NewEncoder" && file != "output.go"
			if raw && !allowed[file+": "+name] {
				t.Errorf("%s: %s: use term.Fprintf, or printJSON", file, name)
			}
			return true
		})
	}
}
