// Package selfexec runs this program again as a helper process. A helper outlives the process
// that started it, and finishes what must not be left half done.
//
// A package that needs a helper registers a name and a main function in its init. In the helper
// that call does not return, so only initialization that comes first runs. A helper is in a
// session of its own and ignores the signals that end programs. Its name does not contain that
// of the program, so that killing all processes of that name spares it.
package selfexec

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// Register makes this process the helper of that name if it was started as one: it runs main
// and exits with its result. It must be called in an init.
func Register(name string, main func() int) {
	if len(os.Args) == 0 || os.Args[0] != name {
		return
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE,
		syscall.SIGALRM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTSTP, syscall.SIGXFSZ)
	// Its name would be that of the link that it was run by.
	_ = os.WriteFile("/proc/self/comm", []byte(name), 0)
	os.Exit(main())
}

// Command returns a command that runs this program as the helper of that name. The caller adds
// what the helper needs, such as ExtraFiles, and starts it.
func Command(name string, args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        append([]string{name}, args...),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
}
