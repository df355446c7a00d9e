package mappedfile

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/selfexec"
)

// How long a server may take for one answer. maxLost is a number.
const (
	serverPatience = 4 * time.Second
	heldPatience   = time.Second // while the process is held
	tellAfter      = 700 * time.Millisecond
	maxLost        = 4 // file readers that were given up, for one process
)

// readerName is the name of a file reader in selfexec.
const readerName = "core-files"

func init() { selfexec.Register(readerName, serveFiles) }

// fileReader reads files that are on a server, in a process of its own. A thread that waits for
// a server cannot always be ended, and then its process does not end either. A file reader that
// does not answer is left to itself.
type fileReader struct {
	of Process

	mu   sync.Mutex
	cmd  *exec.Cmd
	conn net.Conn
	enc  *gob.Encoder
	dec  *gob.Decoder
	gen  int // number of the process; files are open in one alone
	lost int
}

// question is a question to a file reader.
type question struct {
	Op    byte // o open, r read, s size, d data, p whether the path leads to the file
	Name  string
	Link  bool // Name is below /proc/PID
	Inode uint64
	ID    int
	Off   int64
	N     int
	Map   procmem.Mapping // of the file
}

// answer is the answer of a file reader.
type answer struct {
	ID         int
	Bytes      []byte
	EOF        bool
	Size       int64
	Data, Hole int64
	Yes        bool
	Errno      unix.Errno
}

// ask asks a question about a file. gen is the number of the process that has answered. It
// fails with ErrNoAnswer if none comes within patience.
func (r *fileReader) ask(q question, file string, patience time.Duration) (a answer, gen int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost >= maxLost {
		return a, 0, ErrNoAnswer
	}
	if err := r.start(); err != nil {
		return a, 0, err
	}
	timer := time.AfterFunc(tellAfter, func() { r.of.tellWait("the file " + file) })
	defer timer.Stop()
	_ = r.conn.SetDeadline(time.Now().Add(patience))
	if err = r.enc.Encode(&q); err == nil {
		err = r.dec.Decode(&a)
	}
	if err != nil {
		r.leave()
		r.lost++
		return a, 0, ErrNoAnswer
	}
	return a, r.gen, nil
}

// start starts the process, unless there is one.
func (r *fileReader) start() error {
	if r.cmd != nil {
		return nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	cmd := selfexec.Command(readerName, strconv.Itoa(r.of.PID))
	cmd.Env, cmd.Dir, cmd.ExtraFiles = []string{}, "/", []*os.File{theirs, r.of.Dir}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return fmt.Errorf("start a process that reads files: %w", err)
	}
	r.cmd, r.conn, r.enc, r.dec = cmd, conn, gob.NewEncoder(conn), gob.NewDecoder(conn)
	r.gen++
	return nil
}

// leave ends the process, as soon as it can end.
func (r *fileReader) leave() {
	if r.cmd == nil {
		return
	}
	r.conn.Close()
	r.cmd.Process.Kill()
	go r.cmd.Wait()
	r.cmd = nil
}

func (r *fileReader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave()
}

// serveFiles is the main function of a file reader. It ends with the process that started it.
// It drops the capabilities of the program's file, which are for links of /proc.
func serveFiles() int {
	if err := privilege.Lower(); err != nil {
		return 1
	}
	conn, dir := os.NewFile(3, "socket"), os.NewFile(4, "/proc/PID")
	enc, dec := gob.NewEncoder(conn), gob.NewDecoder(conn)
	var files []*os.File
	buf := make([]byte, readerBlock)
	for {
		var q question
		if dec.Decode(&q) != nil {
			return 0
		}
		var a answer
		if q.Op == 'o' {
			if f, err := (way{q.Name, q.Link}).open(dir, q.Inode); err == nil {
				files = append(files, f)
				a.ID = len(files)
			} else {
				a.Errno = unix.ENOENT
			}
		} else if q.Op == 'p' {
			a.Yes = leadsTo(dir, &q.Map, func() []byte { return buildIDHere(dir, &q.Map) })
		} else if q.ID < 1 || q.ID > len(files) {
			a.Errno = unix.EBADF
		} else {
			a.of(files[q.ID-1], q, buf)
		}
		if enc.Encode(&a) != nil {
			return 0
		}
	}
}

// buildIDHere returns the build id of a mapped file, or nil. It does not look into the memory
// of the process. To ask the server by way of the process would hold a lock of the process.
func buildIDHere(dir *os.File, m *procmem.Mapping) []byte {
	file := openHere(dir, m)
	if file == nil {
		return nil
	}
	defer file.Close()
	return buildID(file)
}

// readerBlock is how many bytes are read at once.
const readerBlock = 1 << 20

// of answers a question about an open file.
func (a *answer) of(f *os.File, q question, buf []byte) {
	var err error
	switch q.Op {
	case 'r':
		var n int
		n, err = f.ReadAt(buf[:min(max(q.N, 0), len(buf))], q.Off)
		a.Bytes, a.EOF = buf[:n], errors.Is(err, io.EOF)
		if a.EOF {
			err = nil
		}
	case 's':
		var st os.FileInfo
		if st, err = f.Stat(); err == nil {
			a.Size = st.Size()
		}
	case 'd':
		a.Data, a.Hole, err = seekData(f, q.Off)
	}
	if err != nil && !errors.As(err, &a.Errno) {
		a.Errno = unix.EIO
	}
}
