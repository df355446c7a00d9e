package upload

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// Waiting begins with firstWait, and doubles up to maxWait.
const (
	firstWait = 100 * time.Millisecond
	maxWait   = 5 * time.Second
)

// try does what f does until that succeeds, fails for good, or has failed for as long as
// patience is. When ctx ends it returns the cause of that, at once.
func try(ctx context.Context, patience time.Duration, f func(context.Context) error) error {
	var since time.Time
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		fctx := ctx
		if !since.IsZero() {
			fctx = context.WithValue(ctx, again{}, true)
		}
		err := f(fctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !passing(err):
			return words(err)
		case since.IsZero():
			since = time.Now()
		}
		left := patience - time.Since(since)
		if patience == 0 {
			return words(err)
		}
		if left <= 0 {
			return fmt.Errorf("tried again for %v: %w", patience, words(err))
		}
		select {
		case <-time.After(min(wait, left)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// passing reports whether an error may be another one, or none, if the same is asked again
// later.
func passing(err error) bool {
	var said minio.ErrorResponse
	if !errors.As(err, &said) {
		return !hopeless(err)
	}
	switch said.Code {
	case "XMinioStorageFull", "InsufficientStorage", "InsufficientCapacity", "QuotaExceeded", "NotImplemented":
		return false
	case "RequestTimeout", "SlowDown", "SlowDownWrite", "SlowDownRead", "InternalError", "OperationAborted",
		"Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestThrottled":
		return true
	case "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch": // on the way
		return true
	}
	switch s := said.StatusCode; s {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 499: // 499: nginx, when a client went away
		return true
	case http.StatusNotImplemented, http.StatusInsufficientStorage:
		return false
	default:
		return s >= 500
	}
}

// hopeless reports whether an error that is not from the server is due to how things are.
func hopeless(err error) bool {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &cert) || errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch) ||
		errors.Is(err, os.ErrExist)
}

func notFound(err error) bool { return status(err) == http.StatusNotFound }

// unsaid reports whether a HEAD request was refused. What is wrong is in the text of an answer,
// and these have none.
func unsaid(err error) bool {
	s := status(err)
	return s == http.StatusForbidden || s == http.StatusBadRequest
}

func status(err error) int {
	var said minio.ErrorResponse
	errors.As(err, &said)
	return said.StatusCode
}

func code(err error) string {
	var said minio.ErrorResponse
	errors.As(err, &said)
	return said.Code
}

// bucketRegion returns where the bucket is, if that was told with an error.
func bucketRegion(err error) string {
	var said minio.ErrorResponse
	errors.As(err, &said)
	return said.Region
}

// words returns an error as the server or the system said it. It keeps the code, which is what
// one can search for. It drops the address of the request, which is long and says nothing.
func words(err error) error {
	var said minio.ErrorResponse
	var req *url.Error
	switch {
	case errors.As(err, &said):
		if said.Code == "" || strings.Contains(said.Message, said.Code) {
			return said
		}
		return fmt.Errorf("%s: %w", said.Code, said)
	case errors.As(err, &req):
		return req.Err
	}
	return err
}

// again is in the context of what is tried once more.
type again struct{}

// askFirst is a transport that asks the server, of what is tried once more, whether it wants
// the body at all. One that refuses and closes the connection while we are sending is not
// heard: all that arrives is that the connection is gone. It is not done each time, since
// servers that do not know the question cost a second. The header is not signed: proxies take
// it out.
type askFirst struct{ *http.Transport }

func (t askFirst) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Context().Value(again{}) != nil && req.ContentLength > 0 {
		req = req.Clone(req.Context())
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := t.Transport.RoundTrip(req)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		// minio would put a text of its own in its place, with the address.
		err = errHungUp
	}
	return resp, err
}

var errHungUp = errors.New("the server has closed the connection")
