package main

import (
	"regexp"
	"strings"
)

var (
	tableRow = regexp.MustCompile(`^\| (.*?) \| (.*?) \|(?: (.*?) ?\|)?$`)
	mdLink   = regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`)
	mdEmph   = regexp.MustCompile(`\*([a-z]+)\*`)
)

// plain returns a page in Markdown as a text of help: titles become headings, rows of tables and
// lists items. It knows what docs/json.md has and no more.
func plain(markdown string) string {
	var out strings.Builder
	for paragraph := range strings.SplitSeq(strings.TrimSpace(markdown), "\n\n") {
		switch lines := strings.Split(paragraph, "\n"); {
		case strings.HasPrefix(paragraph, "# "): // the title is that of the topic
		case strings.HasPrefix(paragraph, "#"):
			out.WriteString(strings.ToUpper(unmarked(strings.TrimLeft(paragraph, "# "))) + "\n\n")
		case strings.HasPrefix(paragraph, "|"):
			for _, line := range lines[2:] { // below the names of the columns, and a line of dashes
				out.WriteString(fieldItem(line))
			}
			out.WriteByte('\n')
		case strings.HasPrefix(paragraph, "- "):
			for point := range strings.SplitSeq(paragraph[2:], "\n- ") {
				out.WriteString(entry("-", unmarked(point), 5, helpWidth))
			}
			out.WriteByte('\n')
		default:
			out.WriteString(strings.Join(wrap(unmarked(paragraph), helpWidth), "\n") + "\n\n")
		}
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// fieldItem returns a row of a table, the name of a field, its type and its meaning, as an item.
func fieldItem(row string) string {
	const column = 6
	m := tableRow.FindStringSubmatch(row)
	if m == nil {
		return entry("-", unmarked(row), column, helpWidth)
	}
	text := m[2]
	if m[3] != "" {
		text += ": " + m[3]
	}
	return "  " + unmarked(m[1]) + "\n" + strings.Repeat(" ", column) +
		strings.Join(wrap(unmarked(text), helpWidth-column), "\n"+strings.Repeat(" ", column)) + "\n"
}

// unmarked returns text without the marks of Markdown.
func unmarked(s string) string {
	s = mdLink.ReplaceAllString(s, "$1")
	s = strings.NewReplacer("`", "", "**", "", `\|`, "|").Replace(s)
	return mdEmph.ReplaceAllString(s, "$1")
}
