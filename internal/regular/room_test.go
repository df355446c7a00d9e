package regular

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestRoom(t *testing.T) {
	room, err := Room(filepath.Join(t.TempDir(), "out"))
	if err != nil || room == 0 {
		t.Errorf("%d, %v", room, err)
	}
	if _, err := Room("/nonexistent/out"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v; want %v", err, os.ErrNotExist)
	}
	if room, err := Room("/proc/out"); err != nil || room != 0 {
		t.Errorf("/proc has room for %d bytes, %v", room, err)
	}
}
