package upload

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sys/unix"
)

// deadPeer is how long a server may give no sign that it has what it was sent, or may have no
// room for more. A machine that lost its power sends no word of that. Without a limit, the
// kernel tries for a quarter of an hour. deadPeer says nothing of how fast the data goes.
const deadPeer = time.Minute

// connect returns a client for the server that the environment names. It tries each request
// once: when to try again is decided in try.
func connect(creds *credentials.Credentials, region string) (*minio.Core, error) {
	host, secure, lookup := "s3.amazonaws.com", true, minio.BucketLookupAuto
	if name, value := firstEnv("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"); value != "" {
		u, err := parseEndpoint(value)
		if err != nil {
			return nil, fmt.Errorf("%s=%s: %w", name, value, err)
		}
		// No server of one's own needs to know each bucket by a name in DNS.
		host, secure, lookup = u.Host, u.Scheme == "https", minio.BucketLookupPath
	}
	tr, err := newTransport(secure)
	if err != nil {
		return nil, err
	}
	core, err := minio.NewCore(host, &minio.Options{
		Creds: creds, Secure: secure, Region: region, BucketLookup: lookup, Transport: tr, MaxRetries: 1,
	})
	if err != nil {
		return nil, err
	}
	core.SetS3EnableDualstack(false) // the names that firewalls and private endpoints know
	core.SetAppInfo("procmem", "1")
	return core, nil
}

func newTransport(secure bool) (http.RoundTripper, error) {
	tr, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{
		Timeout:         10 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: deadPeer / 2, Interval: deadPeer / 4, Count: 2},
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				// Without it all goes on as before, with more patience.
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadPeer.Milliseconds()))
			})
		},
	}
	tr.DialContext = dialer.DialContext
	// To put the parts together may take a server as long as to copy them. What must not take
	// long has a limit of its own.
	tr.ResponseHeaderTimeout = 0
	tr.ExpectContinueTimeout = time.Second
	if ca := os.Getenv("AWS_CA_BUNDLE"); secure && ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("AWS_CA_BUNDLE: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("AWS_CA_BUNDLE: no certificate in %s", ca)
		}
		tr.TLSClientConfig.RootCAs = pool
	}
	return askFirst{tr}, nil
}

func parseEndpoint(s string) (*url.URL, error) {
	if !strings.HasPrefix(s, "http://") && !strings.HasPrefix(s, "https://") {
		return nil, errors.New("it does not begin with http:// or https://")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.Unwrap(err)
	case u.Hostname() == "":
		return nil, errors.New("there is no host in it")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("there is more in it than a host and a port")
	}
	return u, nil
}

// region returns the one that the environment names, or where AWS itself begins to look.
func region() string {
	if _, r := firstEnv("AWS_REGION", "AWS_DEFAULT_REGION"); r != "" {
		return r
	}
	return "us-east-1"
}

func firstEnv(names ...string) (name, value string) {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return name, value
		}
	}
	return "", ""
}
