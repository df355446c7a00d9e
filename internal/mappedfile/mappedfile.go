// Package mappedfile opens the files behind the mappings of a process, and tells which of them
// their paths lead to. Package process reads from them what the process has not touched.
//
// Opening a file by itself changes nothing in the process, and leaves no page of it in memory.
// A file is opened by a link below /proc/PID, or by its path below the root of the process with
// the rights of the user. It counts if it has the inode of the mapping, and is a regular file.
//
// A file may be on a server that is not the kernel (FUSE, NFS). A thread that asks such a
// server may wait for ever. So another process asks, core-files: this program run again. An
// answer has to come within 4 s, or 1 s while the process is held. After that core-files is
// left to itself, and ErrNoAnswer is returned.
//
// What the fields of maps and mountinfo mean is in proc(5).
package mappedfile

import "os"

// Process is a process of which files are mapped.
type Process struct {
	PID    int
	Dir    *os.File          // /proc/PID, or that of a thread that lives on
	Mounts Mounts            // that the process sees
	Held   func() bool       // whether the process is held now
	OnWait func(what string) // called where an answer takes long, with what is waited for; nil for none
}

func (p *Process) tellWait(what string) {
	if p.OnWait != nil {
		p.OnWait(what)
	}
}
