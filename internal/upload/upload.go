// Package upload writes an object in S3, or in a server that speaks its protocol. It is for
// bytes that are too many for the disks at hand. The object is sent while it is written, and
// exists when it is whole. Start with Create.
//
// It does not promise that a server which ignores If-None-Match never loses an object that
// somebody else made under the same name meanwhile.
package upload

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	// atOnce is how many parts are on their way at a time. One more is being filled, so that
	// there are three in memory at the most.
	atOnce = 2
	// createTime bounds all that Create asks for. Somebody waits for it, and nothing is lost by
	// an error.
	createTime     = 30 * time.Second
	createPatience = 3 * time.Second
	// requestTime is for a request with hardly anything in it, once.
	requestTime = 30 * time.Second
	// defaultPatience is long enough to restart a server.
	defaultPatience = 2 * time.Minute
)

// Options say how to upload. The zero value is ready for use.
type Options struct {
	// Size is the expected length in bytes, or an upper bound; 0 is unknown. More may be
	// written. Three parts are in memory: 24 MiB for a Size of up to 70 GiB, 360 MiB for 1 TiB.
	// If it is unknown they are 24 MiB for the first 8 GiB, 48 MiB for the 16 GiB that follow,
	// and so on.
	Size int64
	// Force replaces an object of the same name.
	Force bool
	// Patience is how long a part is tried again while the server is away; 0 means two minutes.
	Patience time.Duration
	// Notice, if not nil, is called when the server is away, and when it is back: from any
	// goroutine, by one at a time.
	Notice func(format string, args ...any)
}

// Object is a new object. It implements io.Writer, and is not safe for concurrent use, except
// for Written. Commit or Abort must be called.
type Object struct {
	core             *minio.Core
	url, bucket, key string
	id               string // of the multipart upload
	mark             string // in the object's metadata: it is this one
	replaces         bool   // there was one before
	opts             Options
	abortHelper      *abortHelper // has the server forget it if we are killed; nil for none

	ctx    context.Context // ends with the upload; the cause is what was wrong
	cancel context.CancelCauseFunc

	layout  layout
	next    int    // number of the part that is being filled
	buf     []byte // its content
	ended   bool
	written atomic.Int64

	free  chan []byte   // memory of parts that have been sent
	slots chan struct{} // one for each part that is on its way

	stall time.Duration // stallTime

	mu      sync.Mutex
	parts   []minio.CompletePart
	sent    int64 // bytes in them
	waiting int   // requests that are being tried again

	noticing sync.Mutex
}

// markName is the metadata that tells whose an object is. What the ETag of an object in parts
// is differs from server to server.
const markName = "Procmem-Upload"

// Create begins an object. It fails at once if a request is refused, as for a bucket that does
// not exist, or would be refused in the end. An object that exists gives os.ErrExist, unless
// Force is set.
//
// Its settings are the variables of AWS and the files that they name. AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE and those
// of roles give credentials. AWS_REGION, AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL say where the
// server is. AWS_CA_BUNDLE says which certificates it may have.
func Create(ctx context.Context, url string, o Options) (*Object, error) {
	u, err := create(ctx, url, o)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", url, err)
	}
	return u, nil
}

func create(ctx context.Context, url string, opts Options) (*Object, error) {
	bucket, key, err := ParseURL(url)
	if err != nil {
		return nil, err
	}
	if opts.Patience <= 0 {
		opts.Patience = defaultPatience
	}
	o := &Object{
		url: url, bucket: bucket, key: key, mark: rand.Text(), opts: opts,
		layout: newLayout(opts.Size), next: 1, stall: stallTime,
		free: make(chan []byte, atOnce+1), slots: make(chan struct{}, atOnce),
	}
	if !o.layout.fits() {
		return nil, fmt.Errorf("%d bytes are too many for an object", opts.Size)
	}
	first, done := answerWithin(ctx, createTime)
	defer done()
	if err := o.begin(first); err != nil {
		return nil, err
	}
	o.ctx, o.cancel = context.WithCancelCause(ctx)
	return o, nil
}

// begin asks for all that could be refused.
func (o *Object) begin(ctx context.Context) error {
	creds, err := findCredentials(ctx)
	if err != nil {
		return err
	}
	patience := min(o.opts.Patience, createPatience)
	region := region()
	for range 2 {
		if o.core, err = connect(creds, region); err != nil {
			return err
		}
		_, err = o.stat(ctx, patience)
		other := bucketRegion(err) // a bucket that is elsewhere says where
		if other == "" || other == region {
			break
		}
		region = other
	}
	// Who may write need not be allowed to look. If it is something else, like a bucket that
	// does not exist, the next request will be told.
	blind := unsaid(err)
	switch {
	case err == nil && !o.opts.Force:
		return fmt.Errorf("%w (use --force to replace it)", os.ErrExist)
	case err == nil:
		o.replaces = true
	case !notFound(err) && !blind:
		return err
	}
	if o.abortHelper, err = startAbortHelper(); err != nil {
		o.notice("%s: if procmem is killed, what it has sent will stay on the server: %v", o.url, err)
	}
	err = try(ctx, patience, func(ctx context.Context) (err error) {
		o.id, err = o.core.NewMultipartUpload(ctx, o.bucket, o.key, minio.PutObjectOptions{
			UserMetadata: map[string]string{markName: o.mark},
		})
		return err
	})
	if err != nil {
		o.abortHelper.end()
		return err
	}
	o.abortHelper.watch(abortTask{Region: region, URL: o.url, Bucket: o.bucket, Key: o.key, ID: o.id})
	if blind && !o.opts.Force {
		o.notice("whether %s exists cannot be seen with these credentials; the server is asked not to replace it", o.url)
	}
	return nil
}

// stat asks for the object of this name.
func (o *Object) stat(ctx context.Context, patience time.Duration) (info minio.ObjectInfo, err error) {
	err = try(ctx, patience, func(ctx context.Context) (err error) {
		ctx, done := context.WithTimeout(ctx, requestTime)
		defer done()
		info, err = o.core.StatObject(ctx, o.bucket, o.key, minio.StatObjectOptions{})
		return err
	})
	return info, err
}

// Written returns how many bytes Write has taken. It is safe for concurrent use.
func (o *Object) Written() int64 { return o.written.Load() }

// Write implements io.Writer. It returns when p is in a part that is being filled or sent.
// While two parts are on their way and a third is full, it waits. It returns soon after the
// context of Create has ended.
func (o *Object) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if o.ctx.Err() != nil {
			return done, o.lost("upload", context.Cause(o.ctx))
		}
		if o.buf == nil {
			if o.next > maxParts {
				return done, o.lost("upload", fmt.Errorf("%d bytes were expected, and there is no room for more", o.opts.Size))
			}
			o.buf = o.memory(o.layout.part(o.next))
		}
		n := copy(o.buf[len(o.buf):cap(o.buf)], p[done:])
		o.buf = o.buf[:len(o.buf)+n]
		done += n
		o.written.Add(int64(n))
		if len(o.buf) == cap(o.buf) && !o.send() {
			return done, o.lost("upload", context.Cause(o.ctx))
		}
	}
	return done, nil
}

// memory returns an empty buffer for n bytes.
func (o *Object) memory(n int64) []byte {
	select {
	case b := <-o.free:
		if int64(cap(b)) >= n {
			return b[:0:n]
		}
	default:
	}
	return make([]byte, 0, n)
}

// send begins to send the part that was filled, as soon as not too many are on their way. It
// reports false if the upload is over.
func (o *Object) send() bool {
	select {
	case o.slots <- struct{}{}:
	case <-o.ctx.Done():
		return false
	}
	if o.ctx.Err() != nil {
		<-o.slots
		return false
	}
	n, buf := o.next, o.buf
	o.next, o.buf = n+1, nil
	go func() {
		defer func() { <-o.slots }()
		if err := o.put(n, buf); err != nil {
			o.cancel(err)
			return
		}
		o.free <- buf // before the slot: whoever waits for that finds it
	}()
	return true
}

// wait returns when nothing is on its way, and nothing will be.
func (o *Object) wait() {
	for range atOnce {
		o.slots <- struct{}{}
	}
}

// lost says what has become of the upload.
func (o *Object) lost(verb string, err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	what := "the object does not exist"
	if o.replaces {
		what = "the object that was there is as it was"
	}
	return fmt.Errorf("%s %s: %w (%d bytes had been sent; %s)", verb, o.url, err, o.sent, what)
}
