package procfs

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// maxMountLine bounds the line of one mount, in bytes. Overlays have options of many paths.
const maxMountLine = 1 << 20

// Mount is a line of /proc/PID/mountinfo (proc(5)).
type Mount struct {
	Major, Minor uint32 // device of its files, as in maps
	Root         string // the folder of the file system that is mounted
	Point        string // where it is mounted, below the root of the process
	Type         string // of the file system, such as "ext4" or "fuse.sshfs"
	Options      string // of the file system, with commas between them
}

// ParseMountinfo reads the text of /proc/PID/mountinfo. It returns the mounts in the order of
// the text, where a later one may cover an earlier one. It skips lines of another form, and
// stops at one that is longer than a MiB.
func ParseMountinfo(r io.Reader) (out []Mount) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxMountLine)
	for sc.Scan() {
		// 36 35 98:0 /root /mount options ... - type source options
		head, tail, ok := strings.Cut(sc.Text(), " - ")
		fields, kind := strings.Fields(head), strings.Fields(tail)
		if !ok || len(fields) < 5 || len(kind) == 0 {
			continue
		}
		major, minor, _ := strings.Cut(fields[2], ":")
		a, err1 := strconv.ParseUint(major, 10, 32)
		b, err2 := strconv.ParseUint(minor, 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		m := Mount{Major: uint32(a), Minor: uint32(b), Root: unescape(fields[3]), Point: unescape(fields[4]), Type: kind[0]}
		if len(kind) > 2 {
			m.Options = kind[2]
		}
		out = append(out, m)
	}
	return out
}

// unescape undoes the kernel's escapes of spaces and similar characters: \040.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
