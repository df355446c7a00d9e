package holders

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/descriptors"
	"github.com/procmem/procmem/internal/patient"
	"github.com/procmem/procmem/process"
)

// Pinned returns a clause that names a descriptor by which the kernel or a device may write to
// pinned memory of a process. Such writes cause no fault and leave no trace in page tables:
// reads with O_DIRECT, registered buffers of io_uring, and devices that copy by themselves. It
// returns "" where there is no such descriptor. It looks at a bounded number of
// descriptors, in the tables of all threads.
func Pinned(p *process.Process) (why string) {
	dir, err := p.Open(".")
	if err != nil {
		return "" // the process is gone
	}
	// A call that is passed over still has the folder, so it closes that itself.
	silent := patient.Ask(patient.Long, []*os.File{dir}, func(dir *os.File, step func()) string {
		defer dir.Close()
		return pinnedBy(dir, step)
	}, func(_ *os.File, answer string) { why = answer })
	if silent > 0 {
		return "its descriptors could not be looked at"
	}
	return why
}

// pinnedBy is Pinned for the process with a folder. It waits while the process executes a
// program.
func pinnedBy(dir *os.File, step func()) (why string) {
	err := descriptors.Walk(dir, step, func(d descriptors.Descriptor) bool {
		why = pins(d)
		return why == ""
	})
	if err != nil {
		return err.Error()
	}
	return why
}

// pins is Pinned for one descriptor.
func pins(d descriptors.Descriptor) string {
	link, err := d.Link()
	if err != nil || strings.HasPrefix(link, "pipe:") || strings.HasPrefix(link, "socket:") {
		return "" // O_DIRECT means something else there
	}
	for _, device := range []string{"/dev/infiniband/", "/dev/vfio/", "/dev/nvidia"} {
		if strings.HasPrefix(link, device) {
			return fmt.Sprintf("its descriptor %s is a device that writes to memory by itself (%s)", d.Name, device)
		}
	}
	info, err := d.Info()
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(info) {
		var flags, buffers int
		if _, err := fmt.Sscanf(string(line), "flags:\t%o", &flags); err == nil {
			if flags&unix.O_DIRECT != 0 && flags&unix.O_ACCMODE != unix.O_WRONLY {
				return fmt.Sprintf("its descriptor %s is open for reading with O_DIRECT", d.Name)
			}
		}
		if _, err := fmt.Sscanf(string(line), "UserBufs:\t%d", &buffers); err == nil && buffers > 0 {
			return fmt.Sprintf("its descriptor %s is an io_uring with registered buffers", d.Name)
		}
	}
	return ""
}
