package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// row is how a value is quoted.
type row struct {
	what  string
	unit  string
	scale float64
}

var rows = []row{
	{sleeping, "ms", 1e3},
	{computing, "ms", 1e3},
	{writing, "ms", 1e3},
	{longest, "ms", 1e3},
	{latency, "ms", 1e3},
	{pause, "ms", 1e3},
	{unseen, "ms", 1e3},
	{copies, "", 1},
	{total, "ms", 1e3},
	{speed, "MiB/s", 1.0 / (1 << 20)},
	{reads, "per s", 1},
	{perRead, "KiB", 1.0 / (1 << 10)},
	{onDisk, "MiB", 1.0 / (1 << 20)},
	{change, "MiB", 1.0 / (1 << 20)},
	{peak, "MiB", 1.0 / (1 << 20)},
}

// derived is a column that is computed from the others.
type derived struct {
	name string
	cell func(r row) string
}

// table has a row for each value that a tool has.
func table(w io.Writer, columns []column, more ...derived) {
	line := func(first string, cell func(column) string, computed func(derived) string) {
		cells := []string{first}
		for _, c := range columns {
			cells = append(cells, cell(c))
		}
		for _, d := range more {
			cells = append(cells, computed(d))
		}
		fmt.Fprintf(w, "| %s |\n", strings.TrimPrefix(strings.Join(cells, " | "), " "))
	}
	none := func(derived) string { return "-" }
	line("", func(c column) string { return c.name }, func(d derived) string { return d.name })
	line("---", func(column) string { return "---" }, func(derived) string { return "---" })
	if slices.ContainsFunc(columns, func(c column) bool { return c.methods() != "-" }) {
		line("method", column.methods, none)
		line("one moment", column.consistent, none)
	}
	for _, r := range rows {
		if !slices.ContainsFunc(columns, func(c column) bool { return len(c.all(r.what)) > 0 }) {
			continue
		}
		line(r.what, func(c column) string { return quote(c.all(r.what), r.scale, r.unit) },
			func(d derived) string { return d.cell(r) })
	}
	remarks(w, columns)
}

// remarks quotes what procmem says of its method, and of a core that is not
// of one moment.
func remarks(w io.Writer, columns []column) {
	said := map[[2]string]bool{} // once for each method in a column is enough
	for _, c := range columns {
		for _, s := range c.samples {
			if s.report == nil || said[[2]string{c.name, s.report.Method}] {
				continue
			}
			said[[2]string{c.name, s.report.Method}] = true
			for _, text := range []string{s.report.Why, s.report.InconsistentReason} {
				if text != "" {
					fmt.Fprintf(w, "\n%s, method %s: %s.\n", c.name, s.report.Method, text)
				}
			}
		}
	}
}

// all returns the values of one kind, the best one first.
func (c column) all(what string) []float64 {
	var v []float64
	for _, s := range c.samples {
		if x, ok := s.values[what]; ok {
			v = append(v, x)
		}
	}
	sorted(v)
	if what == speed || what == reads {
		slices.Reverse(v)
	}
	return v
}

// methods tells which methods procmem took, and how often if there was more than one.
func (c column) methods() string {
	count := map[string]int{}
	var names []string
	for _, s := range c.samples {
		if s.report == nil {
			return "-"
		}
		if count[s.report.Method]++; count[s.report.Method] == 1 {
			names = append(names, s.report.Method)
		}
	}
	for i, name := range names {
		if len(names) > 1 {
			names[i] = fmt.Sprintf("%s %d×", name, count[name])
		}
	}
	return strings.Join(names, ", ")
}

// consistent tells whether the cores were of one moment.
func (c column) consistent() string {
	yes := 0
	for _, s := range c.samples {
		if s.report == nil {
			return "-"
		}
		if s.report.Consistent {
			yes++
		}
	}
	switch yes {
	case 0:
		return "no"
	case len(c.samples):
		return "yes"
	}
	return fmt.Sprintf("%d of %d", yes, len(c.samples))
}

// compare compares procmem with gcore, and with the noise.
func (s subject) compare(t *testing.T, w io.Writer, g goal) {
	tools := []tool{procmem(), gcore}
	if s.meter != nil {
		tools = append(tools, nothing)
	}
	if s.twin != 0 {
		tools = append(tools, procmemOfTwin())
	}
	columns := s.measure(t, tools...)
	table(w, columns, ratios("gcore", columns[0], columns[1])...)
	g.tell(w, columns[0], columns[1])
}

// ratios has the medians of ours by the medians, and by the best, of theirs.
func ratios(name string, ours, theirs column) []derived {
	return []derived{
		{"ratio", func(r row) string { return ratio(median(ours.all(r.what)), median(theirs.all(r.what))) }},
		{"by " + name + "'s best", func(r row) string { return ratio(median(ours.all(r.what)), best(theirs.all(r.what))) }},
	}
}

// goal is for the longest gap, or the highest latency.
type goal struct {
	times float64 // so much less than gcore's best; 0 for no goal
	limit float64 // seconds; 0 for none
}

func (g goal) tell(w io.Writer, ours, theirs column) {
	if g.times == 0 {
		return
	}
	what := longest
	if len(ours.all(what)) == 0 {
		what = latency
	}
	a, b := median(ours.all(what)), best(theirs.all(what))
	text := fmt.Sprintf("≤ 1/%.0f of gcore's best", g.times)
	if g.limit != 0 {
		text += " and ≤ " + ms(g.limit)
	}
	fmt.Fprintf(w, "\nGoal: %s %s. %s: 1/%s, %s.\n", what, text,
		reached(a*g.times <= b && (g.limit == 0 || a <= g.limit)), number(b/a), ms(a))
}

// goalLine tells of any other goal.
func goalLine(w io.Writer, text string, yes bool, found string) {
	fmt.Fprintf(w, "\nGoal: %s. %s: %s.\n", text, reached(yes), found)
}

func reached(yes bool) string {
	if yes {
		return "Reached"
	}
	return "Not reached"
}

func skip(w io.Writer, reason string) { fmt.Fprintf(w, "Skipped: %s.\n", reason) }

func sorted(v []float64) []float64 {
	slices.Sort(v)
	return v
}

// median and best take values with the best one first; without any they are 0.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}

func best(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

func quote(v []float64, scale float64, unit string) string {
	if len(v) == 0 {
		return "-"
	}
	return strings.TrimSpace(fmt.Sprintf("%s (%s) %s", number(median(v)*scale), number(best(v)*scale), unit))
}

func ms(seconds float64) string { return number(seconds*1e3) + " ms" }

func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 10:
		return fmt.Sprintf("%.0f", v)
	case a >= 0.1 || a == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

func ratio(a, b float64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", a/b)
}
