package sys

import "unsafe"

// Borders are those of a mapping, in bytes.
type Borders struct {
	Start, End uint64
	Shared     bool
	Inode      uint64 // of the file; 0 where none is mapped
}

// procmapQuery is struct procmap_query (include/uapi/linux/fs.h).
type procmapQuery struct {
	size, flags, addr                   uint64
	start, end                          uint64
	vmaFlags, pageSize, offset, inode   uint64
	major, minor, nameSize, buildIDSize uint32
	name, buildID                       uint64
}

const (
	ioctlProcmapQuery = 3<<30 | unsafe.Sizeof(procmapQuery{})<<16 | 'f'<<8 | 17
	procmapShared     = 1 << 3
)

// MappingAt asks an open /proc/PID/maps for the mapping that holds an address (PROCMAP_QUERY).
// ENOENT: none does. ENOTTY: the kernel is older than 6.11.
func MappingAt(maps uintptr, addr uint64) (Borders, error) {
	q := procmapQuery{size: uint64(unsafe.Sizeof(procmapQuery{})), addr: addr}
	err := ioctl(int(maps), ioctlProcmapQuery, unsafe.Pointer(&q))
	return Borders{q.start, q.end, q.vmaFlags&procmapShared != 0, q.inode}, err
}
