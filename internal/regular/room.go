package regular

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Unnamed returns a new file of mode 0600 without a name, in the folder dir.
func Unnamed(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		return f, nil
	}
	// A file system may lack O_TMPFILE.
	if f, err = os.CreateTemp(dir, "procmem-*.partial"); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Room returns how many bytes the caller can still put into the folder that holds path. Only
// root can use the reserved blocks.
func Room(path string) (uint64, error) {
	var st unix.Statfs_t
	dir := filepath.Dir(path)
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look for room in %s: %w", dir, err)
	}
	free := st.Bavail
	if unix.Geteuid() == 0 {
		free = st.Bfree
	}
	return free * uint64(st.Bsize), nil
}
