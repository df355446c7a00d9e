package procmem

import (
	"fmt"
	"strings"
)

// Perm is the access that a mapping grants, as /proc/PID/maps shows it.
type Perm uint8

// The permissions of a mapping. Shared distinguishes MAP_SHARED from MAP_PRIVATE.
const (
	PermRead Perm = 1 << iota
	PermWrite
	PermExec
	PermShared
)

// String returns the four characters of /proc/PID/maps, such as "rw-p".
func (p Perm) String() string {
	b := []byte("---p")
	if p&PermRead != 0 {
		b[0] = 'r'
	}
	if p&PermWrite != 0 {
		b[1] = 'w'
	}
	if p&PermExec != 0 {
		b[2] = 'x'
	}
	if p&PermShared != 0 {
		b[3] = 's'
	}
	return string(b)
}

// MarshalText writes the four characters of String.
func (p Perm) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// ParsePerm parses the four characters of /proc/PID/maps, such as "rw-p".
func ParsePerm(s string) (Perm, error) {
	if len(s) != 4 {
		return 0, fmt.Errorf("parse permissions %q: want four characters", s)
	}
	var p Perm
	for i, want := range []byte("rwxs") {
		switch s[i] {
		case want:
			p |= 1 << i
		case '-':
			if i == 3 {
				return 0, fmt.Errorf("parse permissions %q: want s or p last", s)
			}
		case 'p':
			if i != 3 {
				return 0, fmt.Errorf("parse permissions %q: misplaced p", s)
			}
		default:
			return 0, fmt.Errorf("parse permissions %q: unknown character %q", s, s[i])
		}
	}
	return p, nil
}

// VMFlags is the set of flags on the VmFlags line of /proc/PID/smaps (fs/proc/task_mmu.c,
// show_smap_vma_flags).
type VMFlags uint64

var vmFlagNames = [...]string{
	"rd", "wr", "ex", "sh", "mr", "mw", "me", "ms", "gd", "pf", "lo", "io",
	"sr", "rr", "dc", "de", "lf", "ac", "nr", "ht", "sf", "ar", "wf", "dd",
	"sd", "mm", "hg", "nh", "mg", "um", "uw", "mt", "bt", "nl", "ss", "sl", "dp", "gu", "ui",
}

// The flags that have a name here.
const (
	VMMayWrite   VMFlags = 1 << 5  // mw: it can be made writable, if it is not
	VMPFNMap     VMFlags = 1 << 9  // pf: pages without a struct page, as of devices
	VMIO         VMFlags = 1 << 11 // io: device memory
	VMDontCopy   VMFlags = 1 << 14 // dc: MADV_DONTFORK
	VMNoReserve  VMFlags = 1 << 18 // nr: no room is set aside for it (MAP_NORESERVE)
	VMHugeTLB    VMFlags = 1 << 19 // ht: hugetlb pages
	VMWipeOnFork VMFlags = 1 << 22 // wf: MADV_WIPEONFORK
	VMDontDump   VMFlags = 1 << 23 // dd: MADV_DONTDUMP
	VMMergeable  VMFlags = 1 << 28 // mg: equal pages are shared (MADV_MERGEABLE)
	VMUffdMiss   VMFlags = 1 << 29 // um: userfaultfd serves missing pages
	VMUffdWP     VMFlags = 1 << 30 // uw: userfaultfd write-protects pages
	VMUffdMinor  VMFlags = 1 << 38 // ui: userfaultfd serves pages that are only in the page cache
)

// vmFlagBit finds a flag by its two letters.
var vmFlagBit = func() (bits [26 * 26]VMFlags) {
	for i, name := range vmFlagNames {
		bits[int(name[0]-'a')*26+int(name[1]-'a')] = 1 << i
	}
	return bits
}()

// ParseVMFlags parses the words of a VmFlags line. It ignores flags that this version does not
// know, as those of a newer kernel.
func ParseVMFlags[T ~string | ~[]byte](s T) VMFlags {
	var f VMFlags
	for len(s) > 0 {
		if s[0] == ' ' {
			s = s[1:]
			continue
		}
		n := 0
		for n < len(s) && s[n] != ' ' {
			n++
		}
		if n == 2 && s[0]-'a' < 26 && s[1]-'a' < 26 {
			f |= vmFlagBit[int(s[0]-'a')*26+int(s[1]-'a')]
		}
		s = s[n:]
	}
	return f
}

// String returns the two-letter names in the kernel's order.
func (f VMFlags) String() string {
	var names []string
	for i, name := range vmFlagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// MarshalText writes the names of String.
func (f VMFlags) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// Usage tells how much of a mapping exists, and where, in bytes. Its source is /proc/PID/smaps.
type Usage struct {
	RSS          uint64 `json:"rss"`           // present in memory
	PSS          uint64 `json:"pss"`           // RSS, each page divided by the number of processes that map it
	SharedClean  uint64 `json:"shared_clean"`  // mapped by others too, as in the file
	SharedDirty  uint64 `json:"shared_dirty"`  // mapped by others too, written
	PrivateClean uint64 `json:"private_clean"` // mapped here alone, as in the file
	PrivateDirty uint64 `json:"private_dirty"` // mapped here alone, written
	Anonymous    uint64 `json:"anonymous"`     // belongs to no file
	Swap         uint64 `json:"swap"`          // in swap space
	HugeTLB      uint64 `json:"hugetlb"`       // in hugetlb pages, which RSS leaves out
}

// Mapping is one line of /proc/PID/maps.
type Mapping struct {
	Range
	Perm   Perm
	Offset uint64 // of Start in the file, in bytes
	Major  uint32 // device of the file
	Minor  uint32
	Inode  uint64 // 0 if no file is mapped

	// Path is the file's name as the kernel knows it, or a name in brackets such as "[heap]".
	// It is empty for anonymous memory. The suffix " (deleted)" stays.
	Path string

	// Unreachable is set if Path does not lead to the file on this machine. The file has lost
	// its name or never had one (memfd), or the name means another file or none, as in another
	// mount namespace. A file with the same build id counts as the same. Only the mappings of a
	// process.View tell.
	Unreachable bool

	// Flags is 0 unless the source is /proc/PID/smaps.
	Flags VMFlags
	// Usage is nil unless the source is /proc/PID/smaps.
	Usage *Usage
}

// Shared reports whether the mapping is MAP_SHARED.
func (m *Mapping) Shared() bool { return m.Perm&PermShared != 0 }

// HasFile reports whether a file is behind the mapping. A memfd, System V shared memory and
// anonymous shared memory count as files.
func (m *Mapping) HasFile() bool { return m.Inode != 0 || strings.HasPrefix(m.Path, "/") }

// Deleted reports whether the mapped file has no name left.
func (m *Mapping) Deleted() bool { return m.HasFile() && strings.HasSuffix(m.Path, " (deleted)") }

// Device reports whether the mapping shows a device. Its memory is never read: that could have
// an effect on the hardware.
func (m *Mapping) Device() bool {
	return !m.Special() && (m.Flags&(VMIO|VMPFNMap) != 0 ||
		m.Flags == 0 && strings.HasPrefix(m.Path, "/dev/") && !strings.HasPrefix(m.Path, "/dev/shm/") &&
			m.Path != "/dev/zero (deleted)") // which is anonymous shared memory
}

// Special reports whether the kernel provides the mapping to every process, as it does [vdso].
func (m *Mapping) Special() bool {
	switch m.Path {
	case "[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]", "[vectors]", "[sigpage]", "[uprobes]":
		return true
	}
	return false
}

// FindMapping returns the index of the first of ascending mappings that ends above a: of the
// one that holds a, or the next one. It is len(ms) if there is none.
func FindMapping(ms []Mapping, a Addr) int {
	lo, hi := 0, len(ms)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); ms[mid].End <= a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
