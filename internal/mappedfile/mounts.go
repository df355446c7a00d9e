package mappedfile

import (
	"io"
	"os"
	"strings"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/procfs"
)

// A file may be on a server that does not answer. That may be the target itself, a server that
// hangs, or one behind a network that is down. A thread that opens or reads the file then waits
// in the kernel. With FUSE, that thread cannot even be ended (fs/fuse/dev.c,
// request_wait_answer). /proc/PID/mountinfo tells without asking a server which file systems
// have one.

// served are the file systems with a server that is not the kernel.
var served = map[string]bool{
	"9p": true, "afs": true, "autofs": true, "beegfs": true, "ceph": true, "cifs": true, "coda": true, "fuse": true,
	"fuseblk": true, "gfs2": true, "glusterfs": true, "gpfs": true, "lustre": true, "ncpfs": true, "nfs": true, "nfs4": true,
	"ocfs2": true, "orangefs": true, "smb3": true, "smbfs": true, "vboxsf": true, "virtiofs": true, "vmhgfs": true,
}

// ServedType reports whether a file system has a server that is not the kernel. magic is its
// type as of statfs(2). Unknown types count as served by the kernel.
func ServedType(magic int64) bool {
	switch uint32(magic) {
	case 0x65735546, // FUSE
		0x6969, 0xff534d42, 0xfe534d42, 0x517b, // NFS, CIFS, SMB2, SMB
		0x01021997, 0x00c36400, 0x73757245, 0x5346414f, 0x6b414653, // 9P, Ceph, Coda, AFS
		0x01161970, 0x7461636f, 0x0bd00bd0, 0x20030528, 0x47504653, // GFS2, OCFS2, Lustre, OrangeFS, GPFS
		0x786f4256, 0xbacbacbc, 0x0187: // VirtualBox, VMware, autofs
		return true
	}
	return false
}

// kernelFiles are prefixes of the names of files that are on no mount, but in memory.
var kernelFiles = []string{"/memfd:", "/SYSV", "/dev/zero (deleted)", "/secretmem", "/[aio]", "socket:[", "/anon_hugepage", "anon_inode:", "/dmabuf", "/drm mm object", "/i915"}

// Mounts knows which file systems of a process have a server.
type Mounts struct {
	served map[[2]uint32]bool // by device; nil: no file is remote
	points map[string]bool    // by the folder on which each is mounted
}

// mountsHere reads the mounts that this process sees.
func mountsHere() Mounts {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ParseMounts(strings.NewReader(""))
	}
	defer f.Close()
	return ParseMounts(f)
}

// ParseMounts reads the text of /proc/PID/mountinfo. If the text is empty, files may be remote
// by their devices alone.
func ParseMounts(r io.Reader) Mounts {
	ms := Mounts{map[[2]uint32]bool{}, map[string]bool{}}
	for _, m := range procfs.ParseMountinfo(r) {
		name, _, _ := strings.Cut(m.Type, ".") // fuse.sshfs
		ms.served[[2]uint32{m.Major, m.Minor}] = served[name]
		ms.points[m.Point] = served[name]
	}
	return ms
}

// Remote reports whether the file behind a mapping is, or may be, on a server.
func (ms *Mounts) Remote(m *procmem.Mapping) bool {
	if ms.served == nil || !m.HasFile() || m.Special() || m.Flags&procmem.VMHugeTLB != 0 {
		return false
	}
	if yes, known := ms.served[[2]uint32{m.Major, m.Minor}]; known {
		return yes
	}
	// The device is of another mount namespace, or unmounted. No block device is known to have
	// a server.
	if m.Major != 0 {
		return false
	}
	for _, name := range kernelFiles {
		if strings.HasPrefix(m.Path, name) {
			return false
		}
	}
	return true
}

// Below reports whether a path is on a file system that has a server.
func (ms *Mounts) Below(path string) bool {
	for dir := path; ; {
		if yes, known := ms.points[dir]; known {
			return yes
		}
		i := strings.LastIndexByte(dir, '/')
		switch {
		case i < 0 || dir == "/":
			return false
		case i == 0:
			dir = "/"
		default:
			dir = dir[:i]
		}
	}
}
