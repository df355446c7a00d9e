package overlay

import (
	"iter"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/process"
)

// Keep copies the existing pages of mappings, and makes the mappings the memory's own. view is
// a view of the process, which is held. Of a file on a server it takes only the pages that the
// process has.
func (o *Memory) Keep(view *process.View, mappings []procmem.Mapping) {
	for i := range mappings {
		m := &mappings[i]
		if m.Shared() && view.Remote(m) {
			o.keepTouched(view, m)
			continue
		}
		o.Own(m.Range)
		at, unseen := m.Start, view.Unseen(m)
		for d, err := range present(view, m) {
			if err != nil {
				o.arena.miss(m.Range, procmem.Cause(err))
				break
			}
			d = procmem.Range{Start: d.Start.PageDown(), End: (d.End + procmem.PageSize - 1).PageDown()}
			if unseen != nil && at < d.Start {
				o.arena.miss(procmem.Range{Start: at, End: d.Start}, unseen)
			}
			o.arena.copy(view, d)
			at = d.End
		}
		if unseen != nil && at < m.End {
			o.arena.miss(procmem.Range{Start: at, End: m.End}, unseen)
		}
		for g, err := range view.Guards(m) {
			if err == nil {
				o.arena.fault(g, procmem.ErrUnreadable) // not missing: a guard holds nothing
			}
		}
	}
}

// keepTouched copies the pages that the process has of a file on a server. The rest is read
// later, because no process is held until a server answers.
func (o *Memory) keepTouched(view *process.View, m *procmem.Mapping) {
	for d, err := range view.Present(m.Range) {
		if err != nil {
			o.arena.miss(m.Range, procmem.Cause(err))
			return
		}
		o.Own(d)
		o.arena.copy(touched{view}, d)
	}
}

// KeepSize returns how many bytes of a mapping Keep would copy.
func KeepSize(view *process.View, m *procmem.Mapping) (n uint64) {
	for d, err := range present(view, m) {
		if err != nil {
			return n
		}
		n += d.Size()
	}
	return n
}

// touched reads existing pages from the process itself, and not from their files.
type touched struct{ *process.View }

func (t touched) ReadAt(p []byte, a procmem.Addr) (int, error) { return t.ReadPresent(p, a) }

// present yields what there is to copy of a mapping.
func present(view *process.View, m *procmem.Mapping) iter.Seq2[procmem.Range, error] {
	if m.Shared() && view.Remote(m) || view.Unseen(m) != nil {
		return view.Present(m.Range)
	}
	return view.Data(m.Range)
}
