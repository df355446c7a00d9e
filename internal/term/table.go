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
}

// Table prints rows in aligned columns. It holds back the first rows to learn the widths, and
// prints the others as they come. A later cell that is wider widens its column from there on.
// That costs a bend in the table. It saves the memory, and the wait for a process with 70,000
// mappings. text/tabwriter keeps all rows, and aligns all columns to the same side.
type Table struct {
	w      *bufio.Writer
	cols   []Column
	line   line
	held   [][]string // rows that wait for the widths; nil once they are out
	header bool       // printed
}

const tableHeld = 1000

// NewTable returns a table to w. With color, its header is bold.
func NewTable(w io.Writer, color bool, cols ...Column) *Table {
	t := &Table{w: bufio.NewWriterSize(w, bufferSize), line: line{color: color}}
	t.cols = append(t.cols, cols...)
	titles := make([]string, len(cols))
	for i, c := range cols {
		titles[i] = c.Title
	}
	t.widen(titles)
	return t
}

// Row adds a row. Cells pass through Printable. Missing cells are empty, and those beyond the
// last column are dropped. It fails if the writer does.
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
		t.cols[i].Width = max(t.cols[i].Width, utf8.RuneCountInString(c))
	}
}

func (t *Table) release() error {
	if !t.header {
		t.header = true
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
	for i, cell := range row {
		if i > 0 {
			t.line.pad(2)
		}
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
