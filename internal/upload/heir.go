package upload

import (
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/procmem/procmem/internal/privilege"
)

// An heir is a process of its own that has the server forget an upload whose
// owner was killed: parts that nobody asks for are paid for month after month.
// It is this program, run again, in a session of its own and deaf to signals
// that end programs. It waits at a pipe that ends with its owner, and is
// killed when the upload has ended.
type heir struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// heirName is what an heir is called, by which it knows that it is one. It does
// not contain the name of the program, so that who kills all processes of that
// name leaves the heirs alone.
const heirName = "upload-keeper"

// heirPipe is the file descriptor at which an heir waits.
const heirPipe = 3

func init() {
	if len(os.Args) == 1 && os.Args[0] == heirName {
		os.Exit(inherit())
	}
}

// will says which upload it is.
type will struct{ Region, URL, Bucket, Key, ID string }

// startHeir starts an heir, which has nothing to do yet.
func startHeir() (*heir, error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	h := &heir{pipe: ours}
	h.cmd = &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{heirName},
		Stderr:      os.Stderr,
		ExtraFiles:  []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := h.cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	return h, nil
}

// inherits tells the heir of the upload. It is no error if the heir was killed.
func (h *heir) inherits(w will) {
	if h != nil {
		gob.NewEncoder(h.pipe).Encode(&w)
	}
}

// dismiss ends the heir of an upload that has ended.
func (h *heir) dismiss() {
	if h != nil {
		h.cmd.Process.Kill() // before the pipe is closed
		h.cmd.Wait()
		h.pipe.Close()
	}
}

// inherit is the main function of an heir.
func inherit() int {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGTSTP)
	// Its name would be that of the link that it was run by.
	os.WriteFile("/proc/self/comm", []byte(heirName), 0)
	// The user names files of credentials and certificates.
	if err := privilege.Lower(); err != nil {
		fmt.Fprintln(os.Stderr, "procmem:", err)
		return 1
	}
	pipe := os.NewFile(heirPipe, "pipe")
	var w will
	if gob.NewDecoder(pipe).Decode(&w) != nil {
		return 0 // there was no upload yet
	}
	io.Copy(io.Discard, pipe) // ends with the owner
	err := w.execute()
	if err == nil {
		err = fmt.Errorf("%s: procmem was killed in mid-upload; the server was told to forget what it was sent", w.URL)
	}
	// What a server says may be anything.
	text := strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '.'
	}, err.Error())
	fmt.Fprintln(os.Stderr, "procmem:", text)
	return 0
}

// execute has the server forget the upload.
func (w *will) execute() error {
	ctx, done := answerWithin(context.Background(), heirTime)
	defer done()
	o := &Object{url: w.URL, bucket: w.Bucket, key: w.Key, id: w.ID, opts: Options{Patience: defaultPatience}}
	creds, err := findCredentials(ctx)
	if err == nil {
		o.core, err = connect(creds, w.Region)
	}
	if err == nil {
		err = o.forget(ctx)
	}
	return o.remains(err)
}
