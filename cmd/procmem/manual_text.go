package main

import (
	"regexp"
	"strings"
)

// Texts of help are made of paragraphs with empty lines between. A paragraph that is one line in
// capitals is a heading. A line that begins with two spaces is an item: a term and, after two
// more spaces, what is said of it, which lines that begin further right continue.

// block is a heading, a run of text or an item.
type block struct {
	kind blockKind
	term string // of an item
	text string // lines are joined
}

type blockKind int

const (
	heading blockKind = iota
	prosaic
	item
)

var itemLine = regexp.MustCompile(`^  (\S.*?)(?:  +(\S.*))?$`)

// blocksOf takes a text of help apart.
func blocksOf(text string) []block {
	var out []block
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		begin := len(out)
		for line := range strings.SplitSeq(strings.Trim(paragraph, "\n"), "\n") {
			m := itemLine.FindStringSubmatch(line)
			switch {
			case m != nil:
				out = append(out, block{item, m[1], m[2]})
			case len(out) == begin:
				out = append(out, block{prosaic, "", line})
			default:
				last := &out[len(out)-1]
				last.text = strings.TrimSpace(last.text + " " + strings.TrimSpace(line))
			}
		}
		if b := &out[begin:][0]; len(out) == begin+1 && b.kind == prosaic && isHeading(b.text) {
			b.kind = heading
		}
	}
	return out
}

func isHeading(line string) bool { return line != "" && line == strings.ToUpper(line) }

// wrap breaks text into lines of at most width columns, as far as its words allow.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// entry returns an item as text of at most width columns. What is said of the term begins at
// column, or on a line of its own where the term is too long for that.
func entry(term, text string, column, width int) string {
	lead := "  " + term
	lines := wrap(text, width-column)
	if len(lead)+2 > column {
		lead += "\n" + strings.Repeat(" ", column)
	} else {
		lead += strings.Repeat(" ", column-len(lead))
	}
	return lead + strings.Join(lines, "\n"+strings.Repeat(" ", column)) + "\n"
}
