package process

import "io"

// readAhead reads r in a goroutine of its own while earlier bytes are worked on. For a process
// with 60,000 mappings, the kernel takes as long to print smaps as parsing takes. The process
// may be held meanwhile. stop must be called before r is closed.
func readAhead(r io.Reader) (out io.Reader, stop func()) {
	const size, depth = 64 << 10, 4
	a := &ahead{full: make(chan chunk, depth), free: make(chan []byte, depth), done: make(chan struct{})}
	for range depth {
		a.free <- make([]byte, size)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.fill(r)
	}()
	return a, func() {
		close(a.done)
		<-ended
	}
}

// chunk is some bytes, and the error that came after them.
type chunk struct {
	b   []byte
	err error
}

type ahead struct {
	full chan chunk
	free chan []byte
	done chan struct{}

	cur  chunk // what is being handed out
	rest []byte
}

func (a *ahead) fill(r io.Reader) {
	for {
		var b []byte
		select {
		case b = <-a.free:
		case <-a.done:
			return
		}
		n, err := io.ReadFull(r, b)
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		select {
		case a.full <- chunk{b[:n], err}:
		case <-a.done:
			return
		}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.b != nil {
			a.free <- a.cur.b[:cap(a.cur.b)]
		}
		a.cur = <-a.full
		a.rest = a.cur.b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}
