package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// everyCommand returns the commands, and the program under the name gcore.
func everyCommand() []*cobra.Command {
	root := newRoot()
	return append([]*cobra.Command{root, newGcore()}, root.Commands()...)
}

// What --help prints is one sentence, three examples and the options, and fits a screen.
func TestHelpFits(t *testing.T) {
	for _, cmd := range everyCommand() {
		if cmd.Hidden && cmd.Name() != "man" {
			continue
		}
		name := cmd.CommandPath()
		text := shortHelp(cmd)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(lines) > helpHeight {
			t.Errorf("%s --help has %d lines", name, len(lines))
		}
		for _, line := range lines {
			if len(line) > helpWidth {
				t.Errorf("%s --help has a line of %d columns: %s", name, len(line), line)
			}
		}
		if sentence, _, _ := strings.Cut(text, "\n"); strings.Count(sentence, ".") != 1 {
			t.Errorf("%s --help begins with %q", name, sentence)
		}
		if got := strings.Count(cmd.Example, "\n") + 1; got < helpExamples {
			t.Errorf("%s has %d examples", name, got)
		}
	}
}

// No text points at a file that is not installed.
func TestHelpStandsAlone(t *testing.T) {
	root := newRoot()
	texts := map[string]string{"gcore": shortHelp(newGcore())}
	words := []string{}
	for _, c := range everyCommand() {
		texts[c.CommandPath()+" --help"] = shortHelp(c)
		words = append(words, c.Name())
	}
	for _, topic := range topics {
		words = append(words, topic.name)
	}
	for _, word := range words {
		if text, err := longHelp(root, []string{word}); err == nil {
			texts["help "+word] = text
		}
	}
	for what, text := range texts {
		for _, path := range []string{"docs/", ".md"} {
			if strings.Contains(text, path) {
				t.Errorf("%s points at %s", what, path)
			}
		}
	}
}

// Each row of docs/json.md is in procmem help json, without marks of Markdown, and each line fits.
func TestHelpJSON(t *testing.T) {
	page, _ := findTopic("json")
	for line := range strings.Lines(page.text) {
		if len(strings.TrimRight(line, "\n")) > helpWidth || strings.ContainsAny(line, "`") || strings.Contains(line, "**") {
			t.Errorf("%q", line)
		}
	}
	for section, fields := range jsonContract(t) {
		if !strings.Contains(page.text, strings.ToUpper(section)+"\n") {
			t.Errorf("no section %s", section)
		}
		for field := range fields {
			field = strings.TrimPrefix(field, "report.") // told in the section on core
			if !strings.Contains(page.text, "\n  "+strings.ReplaceAll(field, "`", "")+"\n") {
				t.Errorf("%s: field %s is missing", section, field)
			}
		}
	}
}

// man pages are read by groff without a warning, and lists are lists.
func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	date, err := releaseDate()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeManual(newRoot(), date, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("groff"); err != nil {
		if os.Getenv("PROCMEM_TEST_ALL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	pages, _ := filepath.Glob(filepath.Join(dir, "*.1"))
	for _, page := range pages {
		text := formatted(t, page)
		name := strings.TrimSuffix(filepath.Base(page), ".1")
		for _, want := range []string{"NAME\n       " + name + " - ", "1970-01-02"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q", name, want)
			}
		}
		for _, not := range []string{"[=false]", `=""`, "Jan 1970"} {
			if strings.Contains(text, not) {
				t.Errorf("%s has %q", name, not)
			}
		}
	}
	text := formatted(t, filepath.Join(dir, "procmem.1"))
	for _, c := range newRoot().Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" && !strings.Contains(text, "\n       "+c.Name()) {
			t.Errorf("procmem(1) does not list %s", c.Name())
		}
	}
	for _, want := range []string{
		"\n       stop   while its memory is copied\n", "\n       precopy\n", "(default core)", "\n       procmem core -o - 1234 | ssh host 'cat > core.1234'\n",
	} {
		if !strings.Contains(formatted(t, filepath.Join(dir, "procmem-core.1")), want) {
			t.Errorf("procmem-core(1) has no %q", want)
		}
	}
}

// formatted returns a page as a terminal that knows no more than ASCII shows it.
func formatted(t *testing.T, page string) string {
	t.Helper()
	var out, msg strings.Builder
	cmd := exec.Command("groff", "-Tascii", "-P-cbou", "-man", "-ww", "-rLL=78n", page)
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil || msg.Len() > 0 {
		t.Errorf("%s: %v: %s", page, err, msg.String())
	}
	return out.String()
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{
		"maps": "maps", "map": "maps", "serach": "search", "searh": "search", "unpak": "unpack", "str": "strings", "x": "", "bogus": "", "": "",
	} {
		if got := nearest(word, []string{"core", "maps", "search", "strings", "pack", "unpack"}); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestReleaseDate(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "soon")
	if _, err := releaseDate(); err == nil {
		t.Error("no error")
	}
}
