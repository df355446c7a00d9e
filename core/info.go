package core

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/checksums"
	"github.com/procmem/procmem/internal/elfcore"
)

// Bounds, in bytes, of the descriptors that are kept in memory. The first is for lists (a
// million mappings with long names). The second is for registers (SVE and SME with the longest
// vectors).
const (
	maxListNote   = 256 << 20
	maxRegsetNote = 1 << 20
)

// noteReader gathers the contents of the notes.
type noteReader struct {
	f     *File
	files []elfcore.FileEntry
	maps  []procmem.Mapping
	names string          // of the threads: text of the NTThreads note
	seen  map[string]bool // notes of the process that came already; the first of each counts
}

// readNotes fills in the image and the report, as far as the notes make sense. sections says
// that there may be sections after the notes.
func (f *File) readNotes(sections bool) {
	nr := noteReader{f: f, seen: map[string]bool{}}
	for _, s := range f.notes {
		nr.segment(s)
	}
	if f.report == nil && f.sums == (fileRange{}) && !sections {
		nr.unnamed()
	}
	switch {
	case len(f.notes) == 0:
		nr.damaged(0, f.size, errors.New("no program header leads to notes, which every core of a process has"))
	case f.report != nil && f.sums == (fileRange{}) && f.promised() < checksums.MaxSummed:
		nr.damaged(f.notes[len(f.notes)-1].off, 0, errors.New("no checksums, which procmem has put here"))
	}
	if nr.maps != nil {
		f.img.Mappings = nr.maps
	} else {
		f.img.Mappings = elfcore.JoinMappings(f.loads(), nr.files)
		elfcore.NameMappings(&f.img)
	}
	f.img.Exe = elfcore.ExePath(&f.img)
	elfcore.ApplyThreads(nr.names, f.img.Threads)
	f.applyReport()
}

// segment reads the notes of a segment. After a malformed part it goes on with the next note of
// procmem. Those come last, and each stands for itself.
func (nr *noteReader) segment(s fileRange) {
	f := nr.f
	if s.end > f.size {
		nr.damaged(s.off, s.end-s.off, procmem.ErrTruncated)
	}
	for at := s.off; ; {
		err := elfcore.ScanNotes(f.r, at, s.end, f.size, func(n elfcore.NoteInfo) bool {
			at = n.Offset + elfcore.NotePad(n.Size)
			if err := nr.take(n); err != nil {
				nr.damaged(n.Offset, n.Size, err)
			}
			return true
		})
		if err == nil {
			return
		}
		end := min(s.end, f.size)
		next := elfcore.FindOwnNote(f.r, at+4, end)
		nr.damaged(at, next-at, formatError(err))
		if at = next; next == end || len(f.broken) == maxBroken {
			return
		}
	}
}

// unnamed looks for notes of procmem after all that the headers name, because they come last in
// a file.
func (nr *noteReader) unnamed() {
	f := nr.f
	var at int64
	for _, s := range f.segs {
		at = max(at, s.off+int64(s.dumped-s.Start))
	}
	for _, s := range f.notes {
		at = max(at, s.end)
	}
	if at = elfcore.FindOwnNote(f.r, at, f.size); at < f.size {
		nr.segment(fileRange{at, f.size})
		nr.damaged(at, f.size-at, errors.New("notes to which no program header leads"))
	}
}

// maxBroken bounds how many damaged parts of a file are listed. The search ends there, because
// a file may be made to cost time.
const maxBroken = 100

func (nr *noteReader) damaged(off, size int64, err error) {
	if len(nr.f.broken) < maxBroken {
		nr.f.broken = append(nr.f.broken, Damage{Offset: off, Size: size, Err: err})
	}
}

// loads returns the memory of the segments, ascending and disjoint.
func (f *File) loads() []elfcore.Load {
	loads := make([]elfcore.Load, len(f.segs))
	for i, s := range f.segs {
		loads[i] = elfcore.Load{Range: s.Range, Perm: s.perm}
	}
	return loads
}

// promised returns how many bytes of memory the file should hold.
func (f *File) promised() (n uint64) {
	for _, s := range f.segs {
		n += uint64(s.dumped - s.Start)
	}
	return n
}

// take reads one note.
func (nr *noteReader) take(n elfcore.NoteInfo) error {
	img := &nr.f.img
	switch {
	case n.Name == elfcore.OwnerCore && n.Type == procmem.NTPRStatus:
		b, err := nr.desc(n, maxRegsetNote)
		img.Threads = append(img.Threads, elfcore.DecodePRStatus(img.Arch, b)) // even with an error, since the next notes are not of the thread before
		return err
	case n.Name == elfcore.OwnerCore && n.Type == elfcore.NTPRPSInfo && nr.first(n):
		b, err := nr.desc(n, maxRegsetNote)
		if err != nil {
			return err
		}
		// A note of another size is passed over, because nothing else depends on it.
		img.Process, _ = elfcore.DecodePRPSInfo(img.Arch, b)
	case n.Name == elfcore.OwnerCore && n.Type == elfcore.NTAuxv && nr.first(n):
		b, err := nr.desc(n, maxRegsetNote)
		img.Auxv, _ = img.Arch.TrimAuxv(b)
		return err
	case n.Name == elfcore.OwnerCore && n.Type == elfcore.NTFile && nr.first(n):
		b, err := nr.desc(n, maxListNote)
		if err != nil {
			return err
		}
		nr.files, err = elfcore.DecodeFiles(img.Arch, b, n.Offset)
		return formatError(err)
	case n.Name == elfcore.OwnerLinux && n.Type == elfcore.NTXSaveLayout:
		b, err := nr.desc(n, maxRegsetNote)
		img.XSaveLayout = b
		return err
	case n.Name == elfcore.OwnerCore && n.Type == procmem.NTFPRegset, n.Name == elfcore.OwnerLinux:
		return nr.takeRegset(n)
	case n.Name == elfcore.OwnerProcmem:
		return nr.takeOwn(n)
	}
	return nil
}

// takeRegset gives a register set to the thread whose PRSTATUS came last.
func (nr *noteReader) takeRegset(n elfcore.NoteInfo) error {
	threads := nr.f.img.Threads
	if len(threads) == 0 || n.Size == 0 {
		return nil
	}
	b, err := nr.desc(n, maxRegsetNote)
	if err != nil {
		return err
	}
	t := &threads[len(threads)-1]
	t.Regsets = append(t.Regsets, procmem.Regset{Type: n.Type, Data: b})
	return nil
}

// takeOwn reads a note of procmem. One that makes no sense is passed over, because the others
// tell nearly as much.
func (nr *noteReader) takeOwn(n elfcore.NoteInfo) error {
	if n.Type == elfcore.NTSums && n.Size >= checksums.MinSize && nr.first(n) {
		nr.f.sums = fileRange{n.Offset, n.Offset + n.Size}
		return nil
	}
	if n.Type != elfcore.NTMaps && n.Type != elfcore.NTThreads && n.Type != elfcore.NTReport || !nr.first(n) {
		return nil
	}
	limit := int64(maxListNote)
	if n.Type == elfcore.NTReport {
		limit = maxReport
	}
	b, err := nr.desc(n, limit)
	if err != nil {
		return err
	}
	switch n.Type {
	case elfcore.NTMaps:
		nr.maps, _ = elfcore.DecodeMaps(string(b))
	case elfcore.NTThreads:
		nr.names = string(b)
	case elfcore.NTReport:
		nr.f.report, _ = decodeReport(b)
	}
	return nil
}

func (nr *noteReader) first(n elfcore.NoteInfo) bool {
	key := fmt.Sprintf("%s %d", n.Name, n.Type)
	if nr.seen[key] {
		return false
	}
	nr.seen[key] = true
	return true
}

// desc reads a descriptor of at most limit bytes.
func (nr *noteReader) desc(n elfcore.NoteInfo, limit int64) ([]byte, error) {
	if n.Size > limit {
		return nil, &FormatError{n.Offset, fmt.Sprintf("note %s/%#x of %d bytes: more than the %d that are plausible", n.Name, n.Type, n.Size, limit)}
	}
	b := make([]byte, n.Size)
	if err := nr.f.readFull(b, n.Offset); err != nil {
		return nil, fmt.Errorf("read note at offset %#x: %w", n.Offset, err)
	}
	return b, nil
}

// applyReport makes memory that the report lists as missing fault. The file holds zeros there,
// which must not be taken for data.
func (f *File) applyReport() {
	if f.report == nil {
		return
	}
	for _, m := range f.report.Missing {
		if !m.Empty() {
			f.lost = append(f.lost, procmem.Fault{Range: m.Range, Err: fmt.Errorf("%w: %s", procmem.ErrNotDumped, m.Error)})
		}
	}
	slices.SortStableFunc(f.lost, func(a, b procmem.Fault) int { return cmp.Compare(a.Start, b.Start) })
	kept := f.lost[:0]
	for _, l := range f.lost {
		if k := len(kept); k > 0 {
			l.Start = max(l.Start, kept[k-1].End)
		}
		if !l.Empty() {
			kept = append(kept, l)
		}
	}
	f.lost = kept
	lacking := make(map[int]string, len(f.report.ThreadsMissing))
	for _, t := range f.report.ThreadsMissing {
		lacking[t.TID] = t.Error
	}
	for i := range f.img.Threads {
		t := &f.img.Threads[i]
		if text, ok := lacking[t.TID]; ok {
			t.Err = errors.New(text)
		}
	}
}
