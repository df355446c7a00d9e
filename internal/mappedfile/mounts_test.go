package mappedfile

import (
	"strings"
	"testing"

	"github.com/procmem/procmem"
)

const mountText = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:5 / /dev rw - devtmpfs udev rw
30 22 0:44 / /srv/a\040b rw - fuse.sshfs host: rw
31 22 0:45 / /net rw - nfs4 host:/ rw
32 30 0:46 / /srv/a\040b/tmp rw - tmpfs tmpfs rw
no mount
33 22 x:y / /bad rw - nfs host:/ rw
`

// Whether a file or a path is on a server is told by the mounts alone.
func TestMounts(t *testing.T) {
	ms := ParseMounts(strings.NewReader(mountText))
	for path, want := range map[string]bool{
		"/bin/cat": false, "/": false, "": false, "name": false, "/network/x": false, "/bad/x": false, "/srv/a b/tmp/x": false,
		"/net": true, "/net/x/y": true, "/srv/a b/c": true,
	} {
		if got := ms.Below(path); got != want {
			t.Errorf("%q: on a server %v; want %v", path, got, want)
		}
	}
	for name, c := range map[string]struct {
		m    procmem.Mapping
		want bool
	}{
		"disk":            {procmem.Mapping{Major: 254, Inode: 7, Path: "/bin/cat"}, false},
		"server":          {procmem.Mapping{Minor: 44, Inode: 7, Path: "/srv/a b/c"}, true},
		"tmpfs":           {procmem.Mapping{Minor: 46, Inode: 7, Path: "/srv/a b/tmp/x"}, false},
		"unknown disk":    {procmem.Mapping{Major: 259, Minor: 3, Inode: 7, Path: "/x"}, false},
		"unknown":         {procmem.Mapping{Minor: 99, Inode: 7, Path: "/x"}, true},
		"memfd":           {procmem.Mapping{Minor: 1, Inode: 7, Path: "/memfd:x (deleted)"}, false},
		"packet ring":     {procmem.Mapping{Minor: 8, Inode: 7, Path: "socket:[99]"}, false},
		"anonymous":       {procmem.Mapping{}, false},
		"pages of 2 MiB":  {procmem.Mapping{Minor: 98, Inode: 7, Path: "/huge", Flags: procmem.VMHugeTLB}, false},
		"System V memory": {procmem.Mapping{Minor: 1, Inode: 7, Path: "/SYSV00000000 (deleted)"}, false},
	} {
		if got := ms.Remote(&c.m); got != c.want {
			t.Errorf("%s: on a server %v; want %v", name, got, c.want)
		}
	}
	none := Mounts{}
	if none.Remote(&procmem.Mapping{Minor: 99, Inode: 7, Path: "/x"}) || none.Below("/net/x") {
		t.Error("without mounts something is on a server")
	}
}

func TestServedType(t *testing.T) {
	for magic, want := range map[int64]bool{0x65735546: true, 0x6969: true, 0xff534d42: true, 0xef53: false, 0x01021994: false} {
		if got := ServedType(magic); got != want {
			t.Errorf("%#x: %v; want %v", magic, got, want)
		}
	}
}
