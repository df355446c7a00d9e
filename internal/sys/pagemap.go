package sys

import (
	"errors"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Categories of a page, as PAGEMAP_SCAN reports them (include/uapi/linux/fs.h).
const (
	PageTracked = 1 << 0 // of a mapping that is tracked for writes
	PageWritten = 1 << 1 // since it was protected, or never protected
	PageFile    = 1 << 2 // of a file or shared memory
	PagePresent = 1 << 3
	PageSwapped = 1 << 4
	PageZero    = 1 << 5 // the kernel's shared page of zeros
	PageHuge    = 1 << 6 // mapped by a huge entry of the page tables
	PageGuard   = 1 << 8 // guard marker, kernel 6.15 and later
)

// PageRegion is a run of pages of the same categories (struct page_region).
type PageRegion struct {
	Start, End uint64
	Categories uint64
}

type pmScanArg struct {
	size, flags                uint64
	start, end, walkEnd        uint64
	vec, vecLen, maxPages      uint64
	inverted, mask, anyof, ret uint64
}

const pagemapScan = 3<<30 | unsafe.Sizeof(pmScanArg{})<<16 | 'f'<<8 | 16

// Scan is a question to PAGEMAP_SCAN. It asks which pages in [Start, End) are in all categories
// of All and, unless Any is 0, in any of Any. Return has the categories to tell of each.
//
// Asking for PageWritten alone is much faster than anything else. Pages that do not exist count
// as written then, if there is a page table for them.
type Scan struct {
	Start, End       uint64
	All, Any, Return uint64
	// Max is after how many found pages the walk ends; 0 is no bound.
	Max uint64
	// Protect write-protects the pages that are found.
	Protect bool
	// Tracked makes it fail with EPERM if not all of the range is tracked for writes.
	Tracked bool
}

// Flags of PAGEMAP_SCAN.
const (
	scanWPMatching   = 1
	scanCheckWPAsync = 2
)

// PagemapQuery asks PAGEMAP_SCAN once. fd is an open /proc/PID/pagemap. It returns how many
// entries of vec were filled, and the address at which the walk ended. After an error, what was
// found or protected before it is not told. ENOTTY: the kernel is older than 6.7. EINVAL: it
// does not know a category. EPERM: see Tracked.
func PagemapQuery(fd uintptr, q Scan, vec []PageRegion) (n int, walkEnd uint64, err error) {
	arg := pmScanArg{start: q.Start, end: q.End, mask: q.All, anyof: q.Any, ret: q.Return, maxPages: q.Max,
		vec: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(vec)))), vecLen: uint64(len(vec))}
	if q.Protect {
		arg.flags |= scanWPMatching
	}
	if q.Tracked {
		arg.flags |= scanCheckWPAsync
	}
	arg.size = uint64(unsafe.Sizeof(arg))
	r, _, e := unix.Syscall(unix.SYS_IOCTL, fd, pagemapScan, uintptr(unsafe.Pointer(&arg)))
	runtime.KeepAlive(vec)
	if e != 0 {
		return 0, arg.walkEnd, e
	}
	return int(r), arg.walkEnd, nil
}

// PagemapNext takes the next step of a walk with PAGEMAP_SCAN. It asks about at most step bytes
// from q.Start on, 0 being all, and asks again after EINTR and EAGAIN. It returns the part of
// vec that was filled, and moves q.Start to where the walk goes on, or to q.End at its end.
// After an error q is unchanged.
//
//	for q.Start < q.End {
//		found, err := sys.PagemapNext(fd, &q, 0, vec)
func PagemapNext(fd uintptr, q *Scan, step uint64, vec []PageRegion) (found []PageRegion, err error) {
	ask := *q
	if left := q.End - q.Start; step > 0 && step < left {
		ask.End = q.Start + step
	}
	for {
		n, end, err := PagemapQuery(fd, ask, vec)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return nil, err
		case end <= q.Start: // the kernel makes no headway
			end = q.End
		}
		q.Start = end
		return vec[:n], nil
	}
}
