package regular

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A symbolic link of another root leads nowhere else.
func TestBelow(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(root, "etc"), 0o755),
		os.WriteFile(filepath.Join(dir, "secret"), []byte("outside"), 0o600),
		os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("inside"), 0o600),
		os.Symlink("/etc/passwd", filepath.Join(root, "absolute")),
		os.Symlink("../../../../../../../../etc/passwd", filepath.Join(root, "relative")),
		os.Symlink("../secret", filepath.Join(root, "out")),
		os.Symlink("/proc/self/exe", filepath.Join(root, "magic")),
		os.Symlink("/dev/null", filepath.Join(root, "device")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, want := range map[string]string{"/etc/passwd": "inside", "etc/passwd": "inside", "/absolute": "inside", "/relative": "inside",
		"/out": "", "/../secret": "", "/magic": "", "/device": "", "/etc": ""} {
		got, st, err := OpenBelow(int(f.Fd()), name)
		if want == "" {
			if err == nil {
				t.Errorf("%s is opened", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if b, err := io.ReadAll(got); string(b) != want || st.Size != int64(len(want)) || err != nil {
			t.Errorf("%s: %q, %d bytes, %v", name, b, st.Size, err)
		}
		got.Close()
	}
}

// What is a file when it is looked at may be something else when it is opened.
// A pipe would tell that it was opened: somebody could then write to it.
func TestSwapped(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(path("it"), []byte("file"), 0o600), unix.Mkfifo(path("other"), 0o600)); err != nil {
		t.Fatal(err)
	}
	pipe, err := unix.Open(path("other"), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe)
	stop, stopped := make(chan bool), make(chan bool)
	opened := 0
	go func() {
		defer close(stopped)
		writer := fmt.Sprintf("/proc/self/fd/%d", pipe)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = unix.Renameat2(unix.AT_FDCWD, path("it"), unix.AT_FDCWD, path("other"), unix.RENAME_EXCHANGE)
			if fd, err := unix.Open(writer, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil { // ENXIO: nobody has it open
				opened++
				unix.Close(fd)
			}
		}
	}()
	files, others := 0, 0
	for files < 5000 || others < 5000 {
		f, _, err := Open(unix.AT_FDCWD, path("it"))
		switch {
		case err == nil:
			files++
			f.Close()
		case errors.Is(err, ErrNotRegular):
			others++
		default:
			t.Fatal(err)
		}
	}
	close(stop)
	<-stopped
	if opened > 0 {
		t.Errorf("the pipe was opened, and %d times seen so", opened)
	}
}
