package main

import (
	"fmt"
	"strings"
	"time"
)

// manPage is a page of section 1, in the language of man(7).
type manPage struct {
	name string
	date time.Time // of the release; zero where that is not known
	b    strings.Builder
}

func newManPage(name string, date time.Time, sections []manSection) *manPage {
	p := &manPage{name: name, date: date}
	day := ""
	if !date.IsZero() {
		day = date.UTC().Format(time.DateOnly)
	}
	p.b.WriteString(fmt.Sprintf(".TH %s 1 %q %q procmem\n.nh\n.ad l\n", roff(strings.ToUpper(name)), day, "procmem "+roff(version)))
	for _, s := range sections {
		p.section(s)
	}
	return p
}

func (p *manPage) section(s manSection) {
	p.line(".SH " + roff(s.title))
	if s.example {
		p.line(".EX")
		for line := range strings.Lines(s.text) {
			p.text(strings.TrimSpace(line))
		}
		p.line(".EE")
		return
	}
	for i, b := range blocksOf(s.text) {
		switch b.kind {
		case heading:
			p.line(".SS " + roff(b.text))
		case item:
			p.line(".TP")
			p.line(".B " + roff(b.term))
			p.text(b.text)
		case prosaic:
			if i > 0 {
				p.line(".PP")
			}
			p.text(b.text)
		}
	}
}

func (p *manPage) line(s string) { p.b.WriteString(s + "\n") }

// text writes a line that is no request.
func (p *manPage) text(s string) {
	if strings.HasPrefix(s, ".") {
		s = `\&` + roff(s)
	} else {
		s = roff(s)
	}
	p.line(s)
}

// roff returns text in which nothing means anything to roff, and which is copied out of a page as it
// was written.
var roff = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`,
	"…", `\&...`, "→", `\(->`).Replace
