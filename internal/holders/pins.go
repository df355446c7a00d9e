package holders

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/patient"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/sys"
	"github.com/procmem/procmem/process"
)

// Pinned returns a clause that names a descriptor by which the kernel or a device may write to
// pinned memory of a process. Such writes cause no fault and leave no trace in page tables:
// reads with O_DIRECT, registered buffers of io_uring, and devices that copy by themselves. It
// returns "" where there is no such descriptor. It looks at a bounded number of
// descriptors, in the tables of all threads.
func Pinned(p *process.Process) (why string) {
	tids, err := p.Threads()
	if err != nil {
		return "" // the process is gone
	}
	silent := patient.Ask([]int{p.PID()}, func(pid int) (why string) {
		privilege.Raised(func() { why = pinnedBy(pid, tids) })
		return why
	}, func(_ int, answer string) { why = answer })
	if silent > 0 {
		return "its descriptors could not be looked at"
	}
	return why
}

// pinnedBy is Pinned for some threads of a process. It waits while the process executes a
// program.
func pinnedBy(pid int, tids []int) string {
	left := maxDescriptors
	for i, tid := range tids {
		if i > 0 {
			if same, err := sys.SameFiles(tids[0], tid); err == nil && same {
				continue
			}
		}
		if why := pinnedIn(fmt.Sprintf("/proc/%d/task/%d", pid, tid), &left); why != "" {
			return why
		}
	}
	return ""
}

// pinnedIn is Pinned for the table of the thread with this folder below /proc. left is how many
// descriptors may still be looked at.
func pinnedIn(thread string, left *int) string {
	dir, err := os.Open(thread + "/fd")
	if err != nil {
		return "" // the thread has ended
	}
	defer dir.Close()
	for {
		names, _ := dir.Readdirnames(1024)
		if len(names) == 0 {
			return ""
		}
		if *left -= len(names); *left < 0 {
			return fmt.Sprintf("it has more than %d descriptors, which were not all looked at", maxDescriptors)
		}
		for _, fd := range names {
			if why := pins(thread, fd); why != "" {
				return why
			}
		}
	}
}

// pins is Pinned for one descriptor.
func pins(thread, fd string) string {
	link, err := os.Readlink(thread + "/fd/" + fd)
	if err != nil || strings.HasPrefix(link, "pipe:") || strings.HasPrefix(link, "socket:") {
		return "" // O_DIRECT means something else there
	}
	for _, device := range []string{"/dev/infiniband/", "/dev/vfio/", "/dev/nvidia"} {
		if strings.HasPrefix(link, device) {
			return fmt.Sprintf("by its descriptor %s a device copies (%s)", fd, device)
		}
	}
	info, err := readSome(thread + "/fdinfo/" + fd)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(info) {
		var flags, buffers int
		if _, err := fmt.Sscanf(string(line), "flags:\t%o", &flags); err == nil {
			if flags&unix.O_DIRECT != 0 && flags&unix.O_ACCMODE != unix.O_WRONLY {
				return fmt.Sprintf("its descriptor %s is open for reading with O_DIRECT", fd)
			}
		}
		if _, err := fmt.Sscanf(string(line), "UserBufs:\t%d", &buffers); err == nil && buffers > 0 {
			return fmt.Sprintf("its descriptor %s is an io_uring with registered buffers", fd)
		}
	}
	return ""
}

// readSome reads the beginning of a file below /proc.
func readSome(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
