package upload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
)

// abortTime bounds Abort, which may be called when somebody is in a hurry. abortHelperTime
// bounds what the abort helper does: nobody waits for that.
const (
	abortTime       = 10 * time.Second
	abortHelperTime = time.Minute
)

var errEnded = errors.New("the upload has ended")

// Commit sends what is left, has the server make the object, and compares its length with what
// was written. If it fails, nothing is left, as after Abort.
func (o *Object) Commit() error {
	if o.ended {
		return fmt.Errorf("finish %s: %w", o.url, errEnded)
	}
	err := o.flush()
	if err == nil {
		err = o.complete()
	}
	var m *madeError
	switch {
	case err == nil:
		o.ended = true
		o.cancel(errEnded)
		o.abortHelper.end()
		return nil
	case errors.As(err, &m), errors.Is(err, os.ErrExist):
		err = fmt.Errorf("finish %s: %w", o.url, err)
	default:
		err = o.lost("finish", err)
	}
	if aborted := o.Abort(); aborted != nil {
		err = fmt.Errorf("%w; %w", err, aborted)
	}
	return err
}

// madeError: the server made an object, or may have.
type madeError struct {
	what string
	err  error
}

func (e *madeError) Error() string { return fmt.Sprintf("%s: %v", e.what, e.err) }
func (e *madeError) Unwrap() error { return e.err }

// flush sends the last part, and waits for all.
func (o *Object) flush() error {
	if o.ctx.Err() == nil && (o.buf != nil || o.next == 1) { // an object has a part, if an empty one
		o.send()
	}
	o.wait()
	for range atOnce {
		<-o.slots
	}
	return context.Cause(o.ctx)
}

// complete makes an object of the parts.
func (o *Object) complete() error {
	slices.SortFunc(o.parts, func(a, b minio.CompletePart) int { return cmp.Compare(a.PartNumber, b.PartNumber) })
	var opts minio.PutObjectOptions
	if !o.opts.Force {
		opts.SetMatchETagExcept("*")
	}
	unsure := false // the server may have done it, and its answer may be lost
	err := o.insist(func(ctx context.Context) error {
		_, err := o.core.CompleteMultipartUpload(ctx, o.bucket, o.key, o.id, o.parts, opts)
		if code(err) == "NotImplemented" && !o.opts.Force { // a server that does not know the condition
			if _, err := o.stat(ctx, 0); err == nil {
				return errTaken
			}
			_, err = o.core.CompleteMultipartUpload(ctx, o.bucket, o.key, o.id, o.parts, minio.PutObjectOptions{})
		}
		if c := code(err); c == "NoSuchUpload" || c == "PreconditionFailed" {
			return o.settled(ctx, err, unsure)
		}
		unsure = unsure || err != nil && (ctx.Err() != nil || passing(err))
		return err
	})
	switch {
	case err == nil:
		return o.check()
	case unsure && !errors.Is(err, os.ErrExist):
		return &madeError{"the server has not said whether it made the object", err}
	}
	return err
}

var errTaken = fmt.Errorf("%w (it was made meanwhile; use --force to replace it)", os.ErrExist)

// settled is for when the server says that there is no such upload, or that there is an object.
// The object may be ours, made by a request whose answer was lost.
func (o *Object) settled(ctx context.Context, said error, unsure bool) error {
	info, err := o.stat(ctx, 0)
	switch {
	case err == nil && o.ours(info):
		return nil
	case code(said) == "PreconditionFailed" && (err == nil || !unsure):
		return errTaken
	case notFound(err) && unsure: // it may still be at it
		return errors.New("neither the upload nor the object is there")
	case err == nil, notFound(err), unsaid(err):
		return said
	}
	return err
}

func (o *Object) ours(info minio.ObjectInfo) bool { return info.UserMetadata[markName] == o.mark }

// check compares the length of the object with what was written.
func (o *Object) check() error {
	var info minio.ObjectInfo
	err := o.insist(func(ctx context.Context) (err error) {
		info, err = o.stat(ctx, 0)
		if notFound(err) { // it may still be at it
			return errors.New("it is not there")
		}
		return err
	})
	switch {
	case unsaid(err):
		o.notice("%s: its length cannot be seen with these credentials", o.url)
		return nil
	case err != nil:
		return &madeError{"the server said that it made the object", err}
	case info.Size == o.Written():
		return nil
	}
	err = fmt.Errorf("there are %d bytes in it, and %d were written", info.Size, o.Written())
	if !o.ours(info) {
		return &madeError{"it was replaced by somebody else", err}
	}
	version := minio.RemoveObjectOptions{VersionID: info.VersionID}
	if e := o.core.RemoveObject(o.ctx, o.bucket, o.key, version); e != nil {
		return &madeError{"the server made a wrong object, which cannot be removed", fmt.Errorf("%w; %w", err, words(e))}
	}
	return &madeError{"the server made a wrong object, which has been removed", err}
}

// Abort ends the upload, and has the server forget what it was sent. It takes ten seconds at
// most, whatever the context and the server do. After Commit it does nothing.
func (o *Object) Abort() error {
	if o.ended {
		return nil
	}
	o.ended = true
	o.cancel(errEnded)
	o.wait() // a part that arrives later would stay
	ctx, done := answerWithin(context.WithoutCancel(o.ctx), abortTime)
	defer done()
	defer o.abortHelper.end()
	return o.remains(o.forget(ctx))
}

// answerWithin bounds how long a server may take.
func answerWithin(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %v", d))
}

// remains tells what the server keeps if it could not be told to forget it.
func (o *Object) remains(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("abort upload of %s: %w; the parts stay, and may be paid for, until a lifecycle rule removes them, or: "+
		"aws s3api abort-multipart-upload --bucket %s --key '%s' --upload-id '%s'", o.url, err, o.bucket, o.key, o.id)
}

// forget has the server drop all parts. A part that is still on its way, such as in a proxy,
// may arrive after that and bring the upload back. So the upload is looked for some times, and
// dropped again.
func (o *Object) forget(ctx context.Context) error {
	const looks, rest = 4, 100 * time.Millisecond
	for gone := 0; gone < looks; {
		err := try(ctx, min(o.opts.Patience, createPatience), func(ctx context.Context) error {
			return o.core.AbortMultipartUpload(ctx, o.bucket, o.key, o.id)
		})
		if err != nil && code(err) != "NoSuchUpload" {
			return err
		}
		for ; gone < looks; gone++ {
			select {
			case <-time.After(rest):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if _, err := o.core.ListObjectParts(ctx, o.bucket, o.key, o.id, 0, 1); err == nil {
				gone = 0
				break // it is there again
			}
		}
	}
	return nil
}
