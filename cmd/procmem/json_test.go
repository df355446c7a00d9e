package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem/internal/testproc"
)

// procmem runs the command and returns what it prints, with its status.
func procmemCommand(t testing.TB, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "procmem", args...)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), msg.String(), cmd.ProcessState.ExitCode()
}

// documented is one field of docs/json.md.
type documented struct {
	kind     string
	optional bool // may be absent, or is in what a list or null may lack
}

// jsonContract reads the tables of docs/json.md, by command and path.
func jsonContract(t *testing.T) map[string]map[string]documented {
	t.Helper()
	b, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := map[string]map[string]documented{}
	section := ""
	row := regexp.MustCompile("^\\| `([^`]+)` \\| ([a-z]+) \\| (.*)\\|$")
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = name
			continue
		}
		m := row.FindStringSubmatch(line)
		if m == nil {
			if strings.HasPrefix(line, "| `") {
				t.Errorf("section %s: not a row: %s", section, line)
			}
			continue
		}
		if doc[section] == nil {
			doc[section] = map[string]documented{}
		}
		doc[section][m[1]] = documented{m[2], strings.Contains(m[3], "absent") || strings.Contains(m[3], "only where")}
	}
	// The report of a core is inside the answer of info.
	for path, d := range doc["core"] {
		doc["info"]["report."+path] = d
	}
	return doc
}

// flatten lists the fields of a JSON value by their paths.
func flatten(v any, path string, visit func(path string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		if path != "" {
			visit(path, v)
		}
		for name, inner := range v {
			at := strings.TrimPrefix(path+"."+name, ".")
			if strings.HasSuffix(path, "registers") {
				at = path + ".*"
			}
			flatten(inner, at, visit)
		}
	case []any:
		visit(path, v)
		for _, inner := range v {
			flatten(inner, path+"[]", visit)
		}
	default:
		visit(path, v)
	}
}

var hexAddress = regexp.MustCompile(`^0x(0|[1-9a-f][0-9a-f]{0,15})$`)

// hasKind checks a value against the type that is documented.
func hasKind(v any, kind, text string) bool {
	switch kind {
	case "string", "text":
		_, ok := v.(string)
		return ok
	case "address":
		s, ok := v.(string)
		return ok && hexAddress.MatchString(s) || v == nil && strings.Contains(text, "null")
	case "integer", "bytes":
		n, ok := v.(json.Number)
		if !ok {
			return false
		}
		_, err := strconv.ParseUint(n.String(), 10, 64)
		return err == nil
	case "number":
		n, ok := v.(json.Number)
		if !ok {
			return false
		}
		f, err := n.Float64()
		return err == nil && f >= 0
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "object":
		_, ok := v.(map[string]any)
		return ok || v == nil
	}
	return false
}

// Every field that a command prints is documented, with its type, and every
// field that is documented is printed by some command.
func TestJSON(t *testing.T) {
	doc := jsonContract(t)
	text, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	zoo := testproc.Start(t, testproc.Zoo) // with a page that cannot be read
	kids := testproc.Start(t, testproc.Kids)
	crash := testproc.Start(t, testproc.Kids)
	pid, plain := strconv.Itoa(zoo.PID()), strconv.Itoa(kids.PID())
	shared := zoo.Map(t, "anon")

	seen := map[string]map[string]bool{}
	told := map[string]bool{}
	complain := func(format string, args ...any) { // once
		t.Helper()
		if s := fmt.Sprintf(format, args...); !told[s] {
			told[s] = true
			t.Error(s)
		}
	}
	check := func(section, line string) {
		t.Helper()
		dec := json.NewDecoder(strings.NewReader(line))
		dec.UseNumber()
		var v map[string]any
		if err := dec.Decode(&v); err != nil || dec.More() {
			t.Errorf("%s: not one JSON object on a line: %v\n%.300s", section, err, line)
			return
		}
		if seen[section] == nil {
			seen[section] = map[string]bool{}
		}
		flatten(v, "", func(path string, v any) {
			seen[section][path] = true
			d, ok := doc[section][path]
			switch v.(type) {
			case map[string]any:
				if !ok { // its fields are documented
					ok = slices.ContainsFunc(slices.Collect(maps.Keys(doc[section])), func(p string) bool { return strings.HasPrefix(p, path+".") })
					d.kind = "object"
				}
			case []any:
				if !ok {
					ok = slices.ContainsFunc(slices.Collect(maps.Keys(doc[section])), func(p string) bool { return strings.HasPrefix(p, path+"[]") })
				}
				if !ok {
					complain("%s: list %s is not in docs/json.md", section, path)
				}
				return
			}
			if !ok {
				complain("%s: field %s is not in docs/json.md", section, path)
				return
			}
			rowText := ""
			for row := range strings.Lines(string(text)) {
				if strings.HasPrefix(row, "| `"+path+"` |") {
					rowText += row
				}
			}
			if !hasKind(v, d.kind, rowText) {
				t.Errorf("%s: field %s is %#v, and documented as %s", section, path, v, d.kind)
			}
		})
	}
	ask := func(section string, want int, args ...string) {
		t.Helper()
		out, msg, status := procmemCommand(t, append(args, "--json")...)
		if status != want {
			t.Errorf("%v: status %d, want %d: %s", args, status, want, msg)
		}
		if out == "" {
			t.Errorf("%v: nothing on stdout: %s", args, msg)
		}
		for line := range strings.Lines(out) {
			if !strings.HasSuffix(line, "\n") {
				t.Errorf("%v: the last line has no end", args)
			}
			check(section, line)
		}
	}

	prefix := filepath.Join(dir, "core")
	coreOf := func(pid string) string { return prefix + "." + pid }
	ask("core", 3, "core", "-o", prefix, pid)
	ask("core", 0, "core", "-o", prefix, plain)
	ask("core", 0, "core", "-o", filepath.Join(dir, "two"), plain, strconv.Itoa(crash.PID()))
	ask("core", 3, "core", "-o", filepath.Join(dir, "live"), "--method", "live", pid)
	_, msg, _ := procmemCommand(t, "core", "-o", "-", "--json", plain)
	check("core", msg)

	ask("maps", 0, "maps", pid)
	ask("maps", 0, "maps", coreOf(pid))
	gap := fmt.Sprintf("%v-%v", shared.End-16, shared.End+16)
	ask("read", 1, "read", pid, gap)
	ask("read", 1, "read", coreOf(pid), gap, "0x10+5")
	data := zoo.Addr(t, "needle data")
	ask("read --follow", 1, "read", "--follow", pid, gap, "sym:environ+0+64", fmt.Sprintf("%v+9", data))
	ask("read --follow", 1, "read", "--follow", coreOf(pid), gap, "sym:environ+0+64")
	ask("strings", 0, "strings", plain, "--in", "[stack]")
	ask("strings", 0, "strings", coreOf(plain), "-e", "l", "-n", "1", "--in", "[stack]")
	saved := filepath.Join(dir, "candidates")
	ask("search", 0, "search", pid, "ELF", "--max-results", "100")
	ask("search", 0, "search", coreOf(pid), "--type", "u32", "0..100", "--context", "4", "--save", saved)
	ask("search", 0, "search", coreOf(pid), "--from", saved, "--unchanged", "--max-results", "100")
	ask("search", 0, "search", coreOf(pid), "--from", saved, "--count")
	ask("search", 1, "search", plain, "--count", "nothing of\x01this", "--in", "[stack]")
	ask("dump", 3, "dump", pid, "-o", filepath.Join(dir, "dump"))
	ask("dump", 3, "dump", coreOf(pid), "-o", filepath.Join(dir, "dump2"))
	index, err := os.ReadFile(filepath.Join(dir, "dump", "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	check("dump", string(index))
	ask("threads", 0, "threads", pid)
	ask("threads", 0, "threads", "--method", "live", pid)
	ask("threads", 0, "threads", coreOf(pid))
	ask("stacks", 0, "stacks", pid)
	ask("stacks", 0, "stacks", "--every", "1ms", "-n", "3", plain)
	ask("stacks", 0, "stacks", coreOf(pid))
	ask("info", 0, "info", pid)
	ask("info", 0, "info", coreOf(pid))
	ask("info", 0, "info", filepath.Join(dir, "live."+pid))
	b, err := os.ReadFile(coreOf(plain))
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut")
	if err := os.WriteFile(cut, b[:len(b)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	ask("info", 3, "info", cut)
	ask("maps", 3, "maps", cut)
	ask("threads", 3, "threads", cut)
	ask("stacks", 3, "stacks", cut)
	ask("verify", 0, "verify", coreOf(pid))
	ask("verify", 1, "verify", cut)
	ask("doctor", 0, "doctor", plain)
	asleep := testproc.Start(t, testproc.Kids)
	asleep.CmdInts(t, "vfork")
	asleep.WaitState(t, 'D')
	ask("doctor", 0, "doctor", strconv.Itoa(asleep.PID()))
	ask("doctor", 1, "doctor", "self")
	ask("doctor", 1, "doctor", "999999999")
	ask("doctor", 1, "doctor", "-o", dir+"/none/core", plain)
	ask("doctor", 0, "doctor", "-o", "s3://bucket/core", plain)
	ask("doctor", 0, "doctor", strconv.Itoa(os.Getpid())) // the parent: a note

	kids.Cmd(t, "threads 1") // came, and grew or altered
	ask("diff", 1, "diff", coreOf(plain), plain, "--hex")
	ask("diff", 1, "diff", plain, coreOf(plain))

	for section, fields := range doc {
		for path, d := range fields {
			if !seen[section][path] && !d.optional {
				t.Errorf("%s: field %s is in docs/json.md, and nothing printed it", section, path)
			}
		}
	}
	if len(doc) != len(seen) {
		t.Errorf("%d commands are documented, and %d print JSON", len(doc), len(seen))
	}
}

// What is not UTF-8, or could harm a terminal, is JSON all the same.
func TestJSONNames(t *testing.T) {
	zoo := testproc.Start(t, testproc.Zoo, "--nospin")
	out, _, _ := procmemCommand(t, "maps", "--json", strconv.Itoa(zoo.PID()))
	var v struct {
		Mappings []struct{ Path string }
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatal(err)
	}
	want := zoo.File(t, "newline")
	if !slices.ContainsFunc(v.Mappings, func(m struct{ Path string }) bool { return m.Path == want }) {
		t.Errorf("no mapping has the path %q", want)
	}
	out, _, _ = procmemCommand(t, "maps", strconv.Itoa(zoo.PID()))
	if strings.Contains(out, "new\nline") || !strings.Contains(out, `new\nline`) {
		t.Error("a newline in a path breaks the line of the table")
	}
}

// The report of core says what is true of the file.
func TestCoreReport(t *testing.T) {
	kids := testproc.Start(t, testproc.Kids)
	prefix := filepath.Join(t.TempDir(), "core")
	before := time.Now()
	out, msg, status := procmemCommand(t, "core", "-o", prefix, "--json", strconv.Itoa(kids.PID()))
	var r struct {
		Time                time.Time
		PID                 int
		Path, Method        string
		Consistent          bool
		PauseMS             float64 `json:"pause_ms"`
		TotalMS             float64 `json:"total_ms"`
		FileBytes           int64   `json:"file_bytes"`
		Missing             []any
		MissingMore         *int `json:"missing_more"`
		Threads, Mappings   int
		InconsistentReason  string `json:"inconsistent_reason"`
		MemoryBytes, Unused uint64
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 {
		t.Fatal(err, status, msg)
	}
	path := prefix + "." + strconv.Itoa(kids.PID())
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Path != path || r.PID != kids.PID() || r.Method != "stop" || !r.Consistent || r.FileBytes != fi.Size() || r.Threads != 1 ||
		r.Missing == nil || len(r.Missing) != 0 || r.MissingMore != nil || r.Mappings == 0 {
		t.Errorf("%s", out)
	}
	if r.PauseMS <= 0 || r.PauseMS > r.TotalMS || r.Time.Before(before.Add(-time.Second)) || r.Time.After(time.Now()) {
		t.Errorf("times make no sense: %s", out)
	}
}
