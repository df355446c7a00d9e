package term

import (
	"bufio"
	"io"
	"unicode/utf8"
)

// Column describes one column of a Table.
type Column struct {
	Title string
	Right bool // align to the right, as numbers are
	Width int  // the least width; 0 leaves it to the title and the cells
	// Most is the most that cells widen it to, on a terminal that rows have to fit. Wider cells
	// bend their row. 0 is no limit.
	Most int
	// Spare columns are left out where a terminal is too narrow, the highest number first. 0 is
	// never left out.
	Spare int
}

// Table prints rows in aligned columns. It holds back the first rows to learn the widths, and
// prints the others as they come. A later cell that is wider widens its column from there on.
// That costs a bend in the table. It saves the memory, and the wait for a process with 70,000
// mappings. text/tabwriter keeps all rows, and aligns all columns to the same side.
type Table struct {
	w      *bufio.Writer
	cols   []column
	line   line
	held   [][]string // rows that wait for the widths; nil once they are out
	header bool       // printed

	fit   int // columns of the terminal; 0 is no limit
	least int // characters of names that are worth a spare column
}

// column is a Column, and whether it is left out.
type column struct {
	Column
	out bool
}

const tableHeld = 1000

// NewTable returns a table to w. With color, its header is bold.
func NewTable(w io.Writer, color bool, cols ...Column) *Table {
	t := &Table{w: bufio.NewWriterSize(w, bufferSize), line: line{color: color}}
	titles := make([]string, len(cols))
	for i, c := range cols {
		t.cols = append(t.cols, column{Column: c})
		titles[i] = c.Title
	}
	t.widen(titles)
	return t
}

// shortest is what is left of a name in any case.
const shortest = 6

// Fit makes rows fit a terminal of so many columns, if they are not 0. The cells of the last
// column, which are names, lose their beginning, because the end tells more. Where fewer than
// least characters of them would be left, spare columns go first. Fit must be called before Row.
func (t *Table) Fit(columns, least int) {
	t.fit, t.least = columns, least
	for i, c := range t.cols {
		if columns > 0 && c.Most > 0 {
			t.cols[i].Width = min(c.Width, c.Most)
		}
	}
}

// Flush prints the rows that are held back, with the widths that are known by now.
func (t *Table) Flush() error { return t.Close() }

// Row adds a row. Cells pass through Printable. Missing cells are empty, and
// those beyond the last column are dropped. It fails if the writer does.
func (t *Table) Row(cells ...string) error {
	row := make([]string, len(t.cols))
	copy(row, cells)
	for i := range row {
		row[i] = Printable(row[i])
	}
	t.widen(row)
	if t.header {
		return t.print(row, plain)
	}
	if t.held = append(t.held, row); len(t.held) < tableHeld {
		return nil
	}
	return t.release()
}

// Close prints the rows that are held back. A table without rows is its header.
func (t *Table) Close() error {
	if err := t.release(); err != nil {
		return err
	}
	return t.w.Flush()
}

func (t *Table) widen(row []string) {
	for i, c := range row {
		n := utf8.RuneCountInString(c)
		if most := t.cols[i].Most; t.fit > 0 && most > 0 && n > most {
			continue
		}
		t.cols[i].Width = max(t.cols[i].Width, n)
	}
}

func (t *Table) release() error {
	if !t.header {
		t.header = true
		t.leaveOut()
		titles := make([]string, len(t.cols))
		for i, c := range t.cols {
			titles[i] = c.Title
		}
		if err := t.print(titles, bold); err != nil {
			return err
		}
	}
	for _, row := range t.held {
		if err := t.print(row, plain); err != nil {
			return err
		}
	}
	t.held = nil
	return nil
}

func (t *Table) print(row []string, c sgr) error {
	t.line.start()
	used := 0 // columns
	for i, cell := range row {
		if t.cols[i].out {
			continue
		}
		if used > 0 {
			t.line.pad(2)
			used += 2
		}
		if i == len(row)-1 && t.fit > 0 {
			cell = End(cell, max(t.fit-used, shortest))
		}
		used += max(t.cols[i].Width, utf8.RuneCountInString(cell))
		fill := t.cols[i].Width - utf8.RuneCountInString(cell)
		if t.cols[i].Right {
			t.line.pad(fill)
		}
		t.line.text(c, cell)
		// The last column is not filled, so that long lines do not wrap.
		if !t.cols[i].Right && i < len(row)-1 {
			t.line.pad(fill)
		}
	}
	_, err := t.w.Write(t.line.end())
	return err
}

// width returns what the columns before the last take, with the spaces after them.
func (t *Table) width() (n int) {
	for _, c := range t.cols[:len(t.cols)-1] {
		if !c.out {
			n += c.Width + 2
		}
	}
	return n
}

// leaveOut leaves out spare columns until there is room for names.
func (t *Table) leaveOut() {
	for t.fit > 0 && t.fit-t.width() < t.least {
		most := 0
		for i, c := range t.cols {
			if !c.out && c.Spare > t.cols[most].Spare {
				most = i
			}
		}
		if t.cols[most].Spare == 0 {
			return
		}
		t.cols[most].out, t.cols[most].Spare = true, 0
	}
}

// End returns the last n characters of a name. Of a path, these tell the most.
func End(name string, n int) string {
	r := []rune(name)
	if len(r) <= n {
		return name
	}
	return "…" + string(r[len(r)-n+1:])
}
