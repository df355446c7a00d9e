package upload

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
)

// stallTime is how long a server that is there may take no byte of a part, or not answer when
// it has all of it. What the kernel still holds back counts as taken, so that this must do for
// a few MiB on a slow line.
const stallTime = 2 * time.Minute

var errStalled = errors.New("the server is there, and does not move")

// put sends part n until the server has it. The server compares what arrived with its MD5 sum,
// which buckets with a retention time insist upon. If there is no TLS, it also compares the
// SHA-256 sum, which is signed. (The default without TLS is to sign each 64 KiB, which not all
// servers understand, and of an empty part makes an invalid request.)
func (o *Object) put(n int, buf []byte) error {
	sum := md5.Sum(buf)
	opts := minio.PutObjectPartOptions{
		Md5Base64:            base64.StdEncoding.EncodeToString(sum[:]),
		DisableContentSha256: true,
	}
	if o.core.EndpointURL().Scheme == "http" {
		opts.Sha256Hex = fmt.Sprintf("%x", sha256.Sum256(buf))
	}
	var part minio.ObjectPart
	err := o.insist(func(ctx context.Context) (err error) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		body := &body{rest: buf, limit: o.stall, alive: time.AfterFunc(o.stall, func() { cancel(errStalled) })}
		defer body.end()
		part, err = o.core.PutObjectPart(ctx, o.bucket, o.key, o.id, n, body, int64(len(buf)), opts)
		if err != nil && errors.Is(context.Cause(ctx), errStalled) {
			return errStalled
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("part %d: %w", n, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.parts = append(o.parts, minio.CompletePart{PartNumber: n, ETag: part.ETag})
	o.sent += int64(len(buf))
	return nil
}

// insist is try, and says when the server is away and when it is back.
func (o *Object) insist(f func(context.Context) error) error {
	waiting := false
	err := try(o.ctx, o.opts.Patience, func(ctx context.Context) error {
		err := f(ctx)
		if err != nil && !waiting && o.ctx.Err() == nil && passing(err) {
			waiting = true
			if o.retrying(+1) == 1 {
				o.notice("%s: the server does not take it: %v; trying again for %v", o.url, words(err), o.opts.Patience)
			}
		}
		return err
	})
	if waiting && o.retrying(-1) == 0 && err == nil {
		o.notice("%s: the server is back", o.url)
	}
	return err
}

// retrying counts the requests that are being tried again.
func (o *Object) retrying(n int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting += n
	return o.waiting
}

func (o *Object) notice(format string, args ...any) {
	if o.opts.Notice != nil {
		o.noticing.Lock()
		defer o.noticing.Unlock()
		o.opts.Notice(format, args...)
	}
}

// body is the content of a part, sent once. When the request is over it gives nothing more: the
// transport may still be reading, and the memory has another part in it soon.
type body struct {
	alive *time.Timer
	limit time.Duration

	mu   sync.Mutex
	rest []byte
	over bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.over:
		return 0, errors.New("the request is over")
	case len(b.rest) == 0:
		return 0, io.EOF
	}
	b.alive.Reset(b.limit)
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) end() {
	b.alive.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over, b.rest = true, nil
}
