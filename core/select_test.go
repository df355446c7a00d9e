package core

import (
	"debug/elf"
	"reflect"
	"strings"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/elfcore"
)

const (
	ro = procmem.PermRead
	rx = procmem.PermRead | procmem.PermExec
	sh = procmem.PermShared
)

// mapped is a mapping of a file.
func mapped(start, size procmem.Addr, perm procmem.Perm, off uint64, path string) procmem.Mapping {
	return procmem.Mapping{Range: rng(start, start+size), Perm: perm, Offset: off, Path: path, Inode: 1, Usage: &procmem.Usage{RSS: page}}
}

func with(m procmem.Mapping, u procmem.Usage, flags procmem.VMFlags) procmem.Mapping {
	m.Usage, m.Flags = &u, flags
	return m
}

// elfPage is the first page of an ELF file with a build id at the given
// offset, whose note is the second of its segment.
func elfPage(noteOff uint64) []byte {
	b := elfcore.AppendHeader(nil, elf.ELFCLASS64, elf.EM_X86_64, 2, 64)
	b[16] = byte(elf.ET_DYN)
	b = elfcore.AppendProgHeader(b, elf.ELFCLASS64, load(0, 0x1000, 0, 0x1000))
	b = elfcore.AppendProgHeader(b, elf.ELFCLASS64, elf.ProgHeader{Type: elf.PT_NOTE, Off: noteOff, Filesz: uint64(len(idNotes()))})
	return append(b, make([]byte, page-len(b))...)
}

func idNotes() []byte {
	return elfcore.AppendNote(elfcore.AppendNote(nil, elfcore.Note{Name: "GNU", Type: 5, Desc: make([]byte, 16)}), elfcore.Note{Name: "GNU", Type: 3, Desc: []byte("01234567890123456789")})
}

// shape tells a segment list as "whole", "none", "omit" or the dumped pages.
func shape(m procmem.Mapping, segs []Segment) string {
	var parts []string
	at := m.Start
	for _, s := range segs {
		if s.Start != at || s.Perm != m.Perm {
			return "torn"
		}
		at = s.End
		if s.Dumped {
			parts = append(parts, rng(s.Start-m.Start, s.End-m.Start).String())
		}
	}
	switch {
	case len(segs) == 0:
		return "omit"
	case at != m.End:
		return "torn"
	case len(parts) == 0:
		return "none"
	case len(segs) == 1:
		return "whole"
	}
	return strings.Join(parts, " ")
}

func TestSelect(t *testing.T) {
	touched := procmem.Usage{RSS: page, Anonymous: page}
	swapped := procmem.Usage{Swap: page}
	none := procmem.Usage{}
	const a = 0x10000
	plain := func(perm procmem.Perm) procmem.Mapping { return anon(a, a+0x4000, perm, "") }
	file := func(perm procmem.Perm) procmem.Mapping { return mapped(a, 0x4000, perm, 0x1000, "/f") }
	huge := func(perm procmem.Perm) procmem.Mapping { return anon(a, a+hugeUntouched, perm, "") }
	deleted := mapped(a, 0x4000, rw|sh, 0, "/memfd:x (deleted)")
	exe := mapped(a, 0x4000, rx, 0, "/exe")
	nodata := mapped(a, 0x4000, rx, 0, "/not elf")
	for _, c := range []struct {
		name     string
		m        procmem.Mapping
		def, all string
		f        Filter // in place of the default
	}{
		{name: "private", m: with(plain(rw), touched, 0), def: "whole", all: "whole"},
		{name: "private, swapped", m: with(plain(rw), swapped, 0), def: "whole", all: "whole"},
		{name: "private, not wanted", m: with(plain(rw), touched, 0), def: "none", all: "whole", f: FilterELFHeaders},
		{name: "private, unknown use", m: plain(rw), def: "whole", all: "whole"},
		{name: "private, unknown use, huge", m: huge(rw), def: "whole", all: "whole"},
		{name: "untouched", m: with(plain(rw), none, 0), def: "whole", all: "whole"},
		{name: "untouched, not wanted", m: with(plain(rw), none, 0), def: "none", all: "whole", f: FilterELFHeaders},
		{name: "untouched huge", m: with(huge(rw), none, 0), def: "none", all: "none"},
		{name: "huge, one page", m: with(huge(rw), touched, 0), def: "whole", all: "whole"},
		{name: "PROT_NONE", m: with(plain(0), none, 0), def: "none", all: "none"},
		{name: "PROT_NONE touched", m: with(plain(0), touched, 0), def: "whole", all: "whole"},
		{name: "MADV_DONTDUMP", m: with(plain(rw), touched, procmem.VMDontDump), def: "none", all: "whole"},
		{name: "device", m: with(plain(rw), touched, procmem.VMIO|procmem.VMPFNMap|procmem.VMDontDump), def: "none", all: "none"},
		{name: "shared device", m: with(mapped(a, 0x4000, rw|sh, 0, "/dev/mem"), none, procmem.VMIO), def: "none", all: "none"},
		{name: "hugetlb", m: with(mapped(a, 0x4000, rw, 0, "/anon_hugepage (deleted)"), none, procmem.VMHugeTLB), def: "whole", all: "whole"},
		{name: "hugetlb, not wanted", m: with(mapped(a, 0x4000, rw, 0, "/anon_hugepage (deleted)"), none, procmem.VMHugeTLB), def: "none", all: "whole", f: FilterAnonPrivate},
		{name: "hugetlb shared", m: with(mapped(a, 0x4000, rw|sh, 0, "/anon_hugepage (deleted)"), none, procmem.VMHugeTLB), def: "none", all: "whole"},
		{name: "shared, no name", m: deleted, def: "whole", all: "whole"},
		{name: "shared, no file", m: plain(rw | sh), def: "whole", all: "whole"},
		{name: "shared, named by the program", m: mapped(a, 0x4000, rw|sh, 0, "[anon_shmem:x]"), def: "whole", all: "whole"},
		{name: "shared, the kernel's", m: mapped(a, 0x4000, rw|sh, 0, "anon_inode:[io_uring]"), def: "whole", all: "whole"},
		{name: "shared, no name, not wanted", m: deleted, def: "none", all: "whole", f: FilterAnonPrivate},
		{name: "shared file", m: mapped(a, 0x4000, rw|sh, 0, "/f"), def: "none", all: "whole"},
		{name: "shared file, wanted", m: mapped(a, 0x4000, rw|sh, 0, "/f"), def: "whole", all: "whole", f: FilterFileShared},
		{name: "file, written", m: with(file(rw), touched, 0), def: "whole", all: "whole"},
		{name: "file, RELRO", m: with(file(ro), touched, 0), def: "whole", all: "whole"},
		{name: "file, clean", m: file(ro), def: "none", all: "whole"},
		{name: "file, clean, wanted", m: file(ro), def: "whole", all: "whole", f: FilterFilePrivate},
		{name: "file, deleted, clean", m: with(mapped(a, 0x4000, rx, 0x1000, "/f (deleted)"), none, 0), def: "whole", all: "whole"},
		{name: "file, deleted, not wanted", m: with(mapped(a, 0x4000, rx, 0x1000, "/f (deleted)"), none, 0), def: "none", all: "whole", f: FilterELFHeaders},
		{name: "file, not found by its name", m: unreachable(file(ro)), def: "whole", all: "whole"},
		{name: "shared file, not found by its name", m: unreachable(mapped(a, 0x4000, rw|sh, 0, "/f")), def: "none", all: "whole"},
		{name: "not ELF", m: nodata, def: "none", all: "whole"},
		{name: "executable", m: exe, def: "0x0-0x1000", all: "whole"},
		{name: "executable, headers not wanted", m: exe, def: "0x0-0x1000", all: "whole", f: FilterAnonPrivate},
		{name: "library", m: mapped(a, 0x4000, rx, 0, "/lib"), def: "0x0-0x1000", all: "whole"},
		{name: "library, headers not wanted", m: mapped(a, 0x4000, rx, 0, "/lib"), def: "none", all: "whole", f: FilterAnonPrivate},
		{name: "library, unreadable", m: mapped(a, 0x4000, procmem.PermExec, 0, "/lib"), def: "none", all: "whole"},
		{name: "vdso", m: with(anon(a, a+0x2000, rx, "[vdso]"), none, procmem.VMDontDump), def: "whole", all: "whole"},
		{name: "vvar", m: with(anon(a, a+0x2000, ro, "[vvar]"), none, procmem.VMDontDump|procmem.VMPFNMap|procmem.VMIO), def: "omit", all: "omit"},
		{name: "vvar_vclock", m: with(anon(a, a+0x2000, ro, "[vvar_vclock]"), none, procmem.VMDontDump|procmem.VMPFNMap|procmem.VMIO), def: "omit", all: "omit"},
		{name: "vsyscall", m: anon(a, a+0x1000, procmem.PermExec, "[vsyscall]"), def: "omit", all: "omit"},
	} {
		mem := newFake(c.m)
		if strings.HasPrefix(c.m.Path, "/exe") || strings.HasPrefix(c.m.Path, "/lib") {
			mem.pages[a] = elfPage(0x400)
			copy(mem.pages[a][0x400:], idNotes())
		}
		img := fakeImage(procmem.AMD64, mem.maps)
		img.Exe = "/exe"
		f := FilterDefault
		if c.f != 0 {
			f = c.f
		}
		if got := shape(c.m, Select(img, mem, f)); got != c.def {
			t.Errorf("%s: %s, want %s", c.name, got, c.def)
		}
		if got := shape(c.m, Select(img, mem, FilterAll)); got != c.all {
			t.Errorf("%s, all: %s, want %s", c.name, got, c.all)
		}
	}
}

func unreachable(m procmem.Mapping) procmem.Mapping {
	m.Unreachable = true
	return m
}

// The page that holds the build id is dumped wherever it lies.
func TestSelectBuildID(t *testing.T) {
	for _, c := range []struct {
		name       string
		noteOff    uint64
		want       []string
		unreadable bool
	}{
		{"first page", 0x800, []string{"0x0-0x1000", "none"}, false},
		{"next page", 0x1800, []string{"0x0-0x2000", "none"}, false},
		{"later page", 0x3010, []string{"0x0-0x1000 0x3000-0x4000", "none"}, false},
		{"across pages", 0x2ff0, []string{"0x0-0x1000 0x2000-0x4000", "none"}, false},
		{"next mapping", 0x5010, []string{"0x0-0x1000", "0x1000-0x2000"}, false},
		{"beyond the mappings", 0x9000, []string{"0x0-0x1000", "none"}, false},
		{"not readable", 0x3010, []string{"0x0-0x1000", "none"}, true},
	} {
		lib, next := mapped(0x10000, 0x4000, ro, 0, "/lib"), mapped(0x14000, 0x4000, rx, 0x4000, "/lib")
		mem := newFake(lib, next)
		mem.pages[lib.Start] = elfPage(c.noteOff)
		for i, b := range idNotes() {
			at := lib.Start + procmem.Addr(c.noteOff) + procmem.Addr(i)
			if mem.pages[at.PageDown()] == nil {
				mem.pages[at.PageDown()] = make([]byte, page)
			}
			mem.pages[at.PageDown()][at-at.PageDown()] = b
		}
		if c.unreadable {
			mem.faults[0x13000] = procmem.ErrUnreadable
		}
		img := fakeImage(procmem.AMD64, mem.maps)
		segs := Select(img, mem, FilterDefault)
		k := 0
		for k < len(segs) && segs[k].Start < next.Start {
			k++
		}
		if got := []string{shape(lib, segs[:k]), shape(next, segs[k:])}; !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestLimitSegments(t *testing.T) {
	seg := func(start procmem.Addr, perm procmem.Perm, dumped bool) Segment {
		return Segment{rng(start, start+page), perm, dumped}
	}
	segs := func() []Segment {
		return []Segment{seg(0x1000, rw, true), seg(0x2000, rw, true), seg(0x3000, ro, true), seg(0x4000, ro, false), seg(0x6000, ro, false), seg(0x7000, ro, true)}
	}
	for limit, want := range map[int][]Segment{
		7: segs(),
		6: append([]Segment{{rng(0x1000, 0x3000), rw, true}}, segs()[2:]...),
		5: {{rng(0x1000, 0x3000), rw, true}, seg(0x3000, ro, true), seg(0x7000, ro, true)},
		3: append([]Segment{{rng(0x1000, 0x3000), rw, true}}, segs()[2:]...), // not enough, so nothing is lost for it
	} {
		if got := limitSegments(segs(), limit); !reflect.DeepEqual(got, want) {
			t.Errorf("limit %d\n got %v\nwant %v", limit, got, want)
		}
	}
}

func TestSelectHugeHoles(t *testing.T) {
	const a, size = procmem.Addr(1) << 40, procmem.Addr(1) << 40
	for _, c := range []struct {
		at   []procmem.Addr // of the pages that exist
		want string
	}{
		{nil, "none"},
		{[]procmem.Addr{0}, "0x0-0x1000"},
		{[]procmem.Addr{0, hugeHole, size - page}, "0x0-0x40001000 0xfffffff000-0x10000000000"},
		{[]procmem.Addr{0, hugeHole + page}, "0x0-0x1000 0x40001000-0x40002000"},
		{[]procmem.Addr{hugeHole - page, size - hugeHole}, "0x0-0x40000000 0xffc0000000-0x10000000000"},
	} {
		m := with(anon(a, a+size, rw, ""), procmem.Usage{RSS: page, Anonymous: page}, 0)
		mem := newFake(m)
		for _, off := range c.at {
			mem.pages[a+off] = pattern(a + off)
		}
		segs := Select(fakeImage(procmem.AMD64, mem.maps), sparseMemory{mem}, FilterDefault)
		if got := shape(m, segs); got != c.want {
			t.Errorf("pages at %v: %s, want %s", c.at, got, c.want)
		}
		if got := shape(m, Select(fakeImage(procmem.AMD64, mem.maps), mem, FilterDefault)); got != "whole" {
			t.Errorf("not knowing where data is: %s", got)
		}
	}
}
