package symbols

import (
	"context"
	"errors"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/debuginfod"
	"github.com/procmem/procmem/internal/lines"
)

// Bounds of one Lines.
const (
	maxAnswers = 1 << 16
	// maxUnits bounds the bytes that are kept of units of debug information, and maxLineWork
	// those of files that are looked at: half a minute of work.
	maxUnits    = 96 << 20
	maxLineWork = 8 << 30
	// patience is how long an answer may take where no server is asked.
	patience = time.Minute
)

// Lines returns what tells functions and lines of the addresses of t. Close must be called.
func (t *Table) Lines(d Debug) *Lines {
	return &Lines{table: t, debug: d, answers: map[procmem.Addr][]Line{}, turn: make(chan struct{}, 1),
		cache: lines.NewCache(maxUnits, maxLineWork), servers: &debuginfod.Client{Servers: d.Servers, Cache: d.Cache}}
}

// At returns the functions that hold the code at an address, from the innermost, which may be
// inlined into the next, to the outermost. It returns nil if nothing is known. When ctx is done,
// or a file does not answer, it returns what the symbol table tells.
//
// A return address is behind its call, which may be the last instruction of a function: ask for
// the address less one.
func (l *Lines) At(ctx context.Context, a procmem.Addr) []Line {
	l.mu.Lock()
	answer, known := l.answers[a]
	hangs := l.hangs
	l.mu.Unlock()
	if known {
		return answer
	}
	if hangs || !l.inTime(ctx, func(ctx context.Context) { answer = l.ask(ctx, a) }) {
		return l.symbolAlone(a)
	}
	if ctx.Err() == nil && answer != nil { // a perf map may tell more later
		l.keep(a, answer)
	}
	return answer
}

// inTime runs f when it is its turn, and reports whether it has ended. A read of a file that is
// on a server never ends by itself: f is then left behind.
func (l *Lines) inTime(ctx context.Context, f func(ctx context.Context)) bool {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	limit := patience
	if len(l.debug.Servers) > 0 {
		limit += 2 * debuginfod.MaxTime // for the file, and what it has in common with others
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	done := make(chan struct{})
	go func() {
		defer func() { <-l.turn }()
		defer close(done)
		f(ctx)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
	case <-timer.C:
		l.mu.Lock()
		l.hangs = true
		l.mu.Unlock()
	}
	return false
}

func (l *Lines) keep(a procmem.Addr, answer []Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.answers) >= maxAnswers {
		clear(l.answers)
	}
	l.answers[a] = answer
}

// Missing returns the files that were asked for so far and have no debug information.
func (l *Lines) Missing() []Missing {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Missing(nil), l.missing...)
}

// errNoAnswer reports a file on a server that is gone.
var errNoAnswer = errors.New("a file with debug information does not answer, and stays open")

// Close closes the files. It fails if one of them does not answer.
func (l *Lines) Close() error {
	select {
	case l.turn <- struct{}{}:
	case <-time.After(openPatience):
		return errNoAnswer
	}
	defer func() { <-l.turn }()
	l.closed = true
	for _, m := range l.modules {
		m.close()
	}
	l.modules = nil
	return nil
}

// symbolAlone is an answer by the symbol table that the Table has.
func (l *Lines) symbolAlone(a procmem.Addr) []Line {
	name, off, ok := l.table.Lookup(a)
	if !ok {
		return nil
	}
	return []Line{{Function: demangled(name), Symbol: name, Offset: off}}
}

// ask finds an answer. It has its turn.
func (l *Lines) ask(ctx context.Context, a procmem.Addr) []Line {
	r, v := l.table.place(a)
	if r == nil {
		return l.compiled(a)
	}
	m := l.module(ctx, r)
	return m.at(r.file, v)
}

// at returns the functions at the address v of the file, whose symbols own are.
func (m *module) at(own *object, v uint64) []Line {
	var out []Line
	for _, f := range m.frames(v) {
		symbol := f.Linkage
		if symbol == "" {
			symbol = f.Name
		}
		line := Line{Function: demangled(symbol), Symbol: symbol, File: f.File, Line: f.Line, Inlined: f.Inlined}
		if !f.Inlined && symbol != "" {
			line.Offset = v - f.Entry
		}
		out = append(out, line)
	}
	name, off, ok := m.symbol(own, v)
	switch k := len(out) - 1; {
	case !ok:
	case k < 0 || out[k].Inlined:
		out = append(out, Line{Function: demangled(name), Symbol: name, Offset: off})
	default:
		out[k].Function, out[k].Symbol, out[k].Offset = demangled(name), name, off
	}
	return out
}

// symbol looks v up in the symbols of the debug file, which are more, then in those of the file.
func (m *module) symbol(own *object, v uint64) (name string, offset uint64, ok bool) {
	if m.more != nil {
		if name, offset, ok = m.more.lookup(v); ok {
			return name, offset, true
		}
	}
	return own.lookup(v)
}
