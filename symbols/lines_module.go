package symbols

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/debugfile"
	"github.com/procmem/procmem/internal/elffile"
	"github.com/procmem/procmem/internal/gopcln"
	"github.com/procmem/procmem/internal/lines"
)

// Bounds of what is open at once: files, and the bytes that are kept of them beside the cache of
// units. The file that is asked for is always there.
const (
	maxModules      = 64
	maxModuleMemory = 192 << 20
)

// module returns that of a run.
func (l *Lines) module(ctx context.Context, r *run) *module {
	first := &l.table.maps[r.first]
	key := keyOf(first)
	if i := slices.IndexFunc(l.modules, func(m *module) bool { return m.key == key }); i >= 0 {
		m := l.modules[i]
		l.modules = append(slices.Delete(l.modules, i, i+1), m)
		l.shrink()
		return m
	}
	if l.closed {
		return &module{}
	}
	m := &module{key: key}
	if err := l.open(ctx, m, first); err != nil && first.Path != vdso {
		l.miss(first.Path, err)
	}
	l.modules = append(l.modules, m)
	l.shrink()
	return m
}

// shrink closes the modules that were not used for longest.
func (l *Lines) shrink() {
	total := int64(0)
	for _, m := range l.modules {
		total += m.memory()
	}
	for len(l.modules) > 1 && (len(l.modules) > maxModules || total > maxModuleMemory) {
		total -= l.modules[0].memory()
		l.modules[0].close()
		l.modules = slices.Delete(l.modules, 0, 1)
	}
}

func (m *module) memory() (n int64) {
	for _, p := range []*lines.Program{m.units, m.alt} {
		if p != nil {
			n += p.Memory()
		}
	}
	if m.goTab != nil {
		n += m.goTab.Memory()
	}
	if m.more != nil {
		n += m.more.memory()
	}
	return n
}

func (m *module) close() {
	for _, p := range []*lines.Program{m.units, m.alt} {
		if p != nil {
			p.Close()
		}
	}
	for _, f := range m.files {
		f.Close()
	}
}

// missingError is why a file with a build id has no debug information.
type missingError struct {
	buildID []byte
	err     error
}

func (e *missingError) Error() string { return e.err.Error() }
func (e *missingError) Unwrap() error { return e.err }

func (l *Lines) miss(path string, err error) {
	m := Missing{Path: path, Err: err}
	if e, ok := errors.AsType[*missingError](err); ok {
		m.BuildID, m.Err = e.buildID, e.err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.ContainsFunc(l.missing, func(had Missing) bool { return had.Path == path }) && len(l.missing) < maxModules {
		l.missing = append(l.missing, m)
	}
}

// open opens what there is for the file that is mapped in first.
func (l *Lines) open(ctx context.Context, m *module, first *procmem.Mapping) error {
	f, err := l.table.open(first)
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	e, err := elffile.Open(f, f.Size())
	if err != nil {
		return err
	}
	if err = l.read(ctx, m, e); err == nil {
		return nil
	}
	if m.goTab, _ = gopcln.Open(e); m.goTab != nil {
		return nil
	}
	wanted := debugfile.Of(e)
	d, found := l.debugFile(ctx, wanted, first.Path)
	if found == nil {
		m.files = append(m.files, d)
		if e, err = elffile.Open(d, d.Size()); err == nil {
			m.more = l.symbols(d, d.Size())
			err = l.read(ctx, m, e)
		}
	} else if errors.Is(err, lines.ErrNone) {
		err = found
	}
	if m.more == nil {
		if data, _ := debugfile.Debugdata(e); data != nil {
			m.more = l.symbols(bytes.NewReader(data), int64(len(data)))
		}
	}
	if err != nil {
		return &missingError{wanted.BuildID, err}
	}
	return nil
}

// read opens the debug information that is in e itself, and what e has in common with others.
func (l *Lines) read(ctx context.Context, m *module, e *elffile.File) (err error) {
	if wanted, at, ok := debugfile.Alt(e); ok {
		if f, err := l.altFile(ctx, wanted, at); err == nil {
			m.files = append(m.files, f)
			if a, err := elffile.Open(f, f.Size()); err == nil {
				m.alt, _ = lines.Open(a, nil, l.cache)
			}
		}
	}
	m.units, err = lines.Open(e, m.alt, l.cache)
	return err
}

// symbols reads a symbol table within the budget of the Table.
func (l *Lines) symbols(r io.ReaderAt, size int64) *object {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	o, err := readObject(r, size, &l.table.left)
	if err != nil || len(o.symbols) == 0 {
		return nil
	}
	return o
}

// frames asks for the functions at v.
func (m *module) frames(v uint64) []lines.Frame {
	if m.units != nil {
		if frames, err := m.units.At(v); err == nil && len(frames) > 0 {
			return frames
		}
	}
	if m.goTab != nil {
		return m.goTab.At(v)
	}
	return nil
}
