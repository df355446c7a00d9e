package upload

import (
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/selfexec"
)

// An abort helper is a process of its own that has the server forget an upload whose owner was
// killed. Parts that nobody asks for are paid for month after month. The helper waits at a pipe
// that ends with its owner. It is killed when the upload has ended.
type abortHelper struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// abortHelperName is what an abort helper is called.
const abortHelperName = "upload-helper"

// abortHelperPipe is the file descriptor at which an abort helper waits.
const abortHelperPipe = 3

func init() { selfexec.Register(abortHelperName, runAbortHelper) }

// abortTask says which upload it is.
type abortTask struct{ Region, URL, Bucket, Key, ID string }

// startAbortHelper starts an abort helper, which has nothing to do yet.
func startAbortHelper() (*abortHelper, error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	h := &abortHelper{pipe: ours}
	h.cmd = selfexec.Command(abortHelperName)
	h.cmd.Stderr, h.cmd.ExtraFiles = os.Stderr, []*os.File{theirs}
	if err := h.cmd.Start(); err != nil {
		ours.Close()
		return nil, err
	}
	return h, nil
}

// watch tells the abort helper of the upload. It is no error if the abort helper was killed.
func (h *abortHelper) watch(w abortTask) {
	if h != nil {
		_ = gob.NewEncoder(h.pipe).Encode(&w)
	}
}

// end ends the abort helper of an upload that has ended.
func (h *abortHelper) end() {
	if h != nil {
		h.cmd.Process.Kill() // before the pipe is closed
		h.cmd.Wait()
		h.pipe.Close()
	}
}

// runAbortHelper is the main function of an abort helper.
func runAbortHelper() int {
	// The user names files of credentials and certificates.
	if err := privilege.Lower(); err != nil {
		fmt.Fprintln(os.Stderr, "procmem:", err)
		return 1
	}
	pipe := os.NewFile(abortHelperPipe, "pipe")
	var w abortTask
	if gob.NewDecoder(pipe).Decode(&w) != nil {
		return 0 // there was no upload yet
	}
	_, _ = io.Copy(io.Discard, pipe) // ends with the owner
	err := w.run()
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

// run has the server forget the upload.
func (w *abortTask) run() error {
	ctx, done := answerWithin(context.Background(), abortHelperTime)
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
