package kernels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// begins and ends are how init marks a command on the console.
const (
	begins = "@begin "
	ends   = "@end "
)

// initScript runs the commands, each with its number, and powers the machine off.
const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/tests HOME=/root TMPDIR=/tmp NO_COLOR=1 PROCMEM_TEST_PROGRAM=/bin/procmem PROCMEM_TEST_HELPERS=/helpers
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
stty -onlcr
cd /tests
for step in /steps/*; do
	printf '\n` + begins + `%s\n' "${step##*/}"
	sh "$step"
	printf '\n` + ends + `%s %s\n' "${step##*/}" $?
done
poweroff -f
`

// initramfs makes the file system of a machine that runs commands.
func (m machine) initramfs(t *testing.T, commands []string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "root", "etc", "steps", "tests"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"init":       initScript,
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
		"etc/group":  "root:x:0:\nnogroup:x:65534:\n",
	}
	for i, c := range commands {
		files[fmt.Sprintf("steps/%02d", i)] = c + "\n"
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.install(t, root, commands)
	return pack(t, root)
}

// pack makes an archive of a folder that a kernel takes for its first file system.
func pack(t *testing.T, root string) string {
	t.Helper()
	var names bytes.Buffer
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(root, path); err == nil && rel != "." {
			fmt.Fprintln(&names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "initramfs"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.CommandContext(t.Context(), "cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0")
	cmd.Dir, cmd.Stdin, cmd.Stdout = root, &names, file
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return file.Name()
}

// qemu is how a machine of each architecture is emulated, and what its console is called.
var qemu = map[string]struct {
	argv    []string
	console string
}{
	"amd64": {[]string{"qemu-system-x86_64", "-machine", "q35", "-cpu", "max"}, "ttyS0"},
	"arm64": {[]string{"qemu-system-aarch64", "-machine", "virt", "-cpu", "max,pauth-impdef=on"}, "ttyAMA0"},
}

// boot runs a machine until it powers itself off, and returns what it has written to its
// console. A machine that takes longer is ended.
func (m machine) boot(t *testing.T, image, initramfs string, limit time.Duration) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	q := qemu[m.arch]
	cmd := exec.CommandContext(ctx, q.argv[0], append(q.argv[1:], "-accel", "tcg,thread=multi", "-smp", "2", "-m", "3072",
		"-kernel", image, "-initrd", initramfs, "-append", "console="+q.console+" loglevel=1 panic=-1 mitigations=off",
		"-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nic", "none")...)
	var console bytes.Buffer
	var to io.Writer = &console
	if *watch {
		to = io.MultiWriter(to, os.Stderr)
	}
	cmd.Stdout, cmd.Stderr = to, to
	// However this program ends, as by its time limit, the machine ends with it: with the thread
	// that has started it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("the machine did not end in %v", limit)
	}
	return console.Bytes(), err
}
