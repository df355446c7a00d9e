package main

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// bySignal is what a shell adds to the number of a signal that has ended a command, to make a
// status of it.
const bySignal = 128

// errReaderGone reports that nobody reads the listing any more. It is not told: head(1) is such a
// reader.
var errReaderGone = errors.New("the reader of the output has closed it")

// signalOf returns the signal that an error stands for, or 0: the one that was caught, or the one
// that a closed pipe sends to other commands.
func signalOf(err error) syscall.Signal {
	if e, ok := errors.AsType[errInterrupted](err); ok {
		sig, _ := e.sig.(syscall.Signal)
		return sig
	}
	if errors.Is(err, errReaderGone) {
		return syscall.SIGPIPE
	}
	return 0
}

// leave returns the status to end with. Where it is that of a signal, procmem ends by the signal
// itself: a shell does not go on with a script then.
func leave(status int) int {
	if status <= bySignal {
		return status
	}
	sig := syscall.Signal(status - bySignal)
	// Notify has the runtime forget that the signal was ignored; Reset leaves it to the kernel.
	signal.Notify(make(chan os.Signal, 1), sig)
	signal.Reset(sig)
	switch sig {
	case syscall.SIGPIPE:
		_, _ = os.Stdout.Write([]byte{'\n'}) // to nobody, of which the runtime dies as others do
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP: // and not SIGQUIT: the runtime would print stacks
		runtime.LockOSThread()
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
	}
	return status
}
