// Package debuginfod asks servers for debug information by build id, and keeps what they send.
//
// Start with a Client. It tells servers which programs a machine runs, so nobody should be asked
// without being told to. What a server sends is bounded in size and time; the caller must look
// whether it is what was asked for.
package debuginfod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/regular"
)

// Bounds of one file.
const (
	MaxTime  = time.Minute
	maxBytes = 1 << 30
	// connecting is how long a server may take to begin its answer.
	connecting = 10 * time.Second
)

// Client asks servers. Its fields must not change once it is in use.
type Client struct {
	// Servers are their URLs, which are asked in turn.
	Servers []string
	// Cache is the folder for what they send. "" is that of DefaultCache.
	Cache string

	silent map[string]bool // servers that did not answer
	failed map[string]error
}

// DefaultCache returns DEBUGINFOD_CACHE_PATH, or a folder in the user's cache folder. It fails
// if that is unknown.
func DefaultCache() (string, error) {
	if dir := os.Getenv("DEBUGINFOD_CACHE_PATH"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "procmem", "debuginfod"), nil
}

// ErrUnknown reports a build id that no server knows.
var ErrUnknown = errors.New("no debuginfod server knows its build id")

// Open returns the file with the debug information of a build id: from the cache, or from a
// server, which may take MaxTime. It must not be called by several goroutines at once.
func (c *Client) Open(ctx context.Context, buildID []byte) (*os.File, *unix.Stat_t, error) {
	if len(buildID) < 2 || len(buildID) > 64 {
		return nil, nil, ErrUnknown
	}
	dir := c.Cache
	if dir == "" {
		var err error
		if dir, err = DefaultCache(); err != nil {
			return nil, nil, err
		}
	}
	id := fmt.Sprintf("%x", buildID)
	path := filepath.Join(dir, id, "debuginfo") // as the client of elfutils has it
	if f, st, err := regular.Open(unix.AT_FDCWD, path); err == nil && st.Size > 0 {
		return f, st, nil
	} else if err == nil {
		f.Close() // that client's mark of an unknown build id
	}
	if err, ok := c.failed[id]; ok {
		return nil, nil, err
	}
	err := c.fetch(ctx, id, path)
	if err != nil {
		if c.failed == nil {
			c.failed = map[string]error{}
		}
		c.failed[id] = err
		return nil, nil, err
	}
	return regular.Open(unix.AT_FDCWD, path)
}

// fetch asks the servers, and puts what one sends at a path.
func (c *Client) fetch(ctx context.Context, id, path string) error {
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	last := ErrUnknown
	for _, server := range c.Servers {
		if c.silent[server] {
			continue
		}
		err := fetchFrom(ctx, strings.TrimRight(server, "/")+"/buildid/"+id+"/debuginfo", path)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrUnknown) {
			last = err
			if c.silent == nil {
				c.silent = map[string]bool{}
			}
			c.silent[server] = true
		}
	}
	return last
}

var client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: connecting, TLSHandshakeTimeout: connecting}}

func fetchFrom(ctx context.Context, url, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "procmem")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return ErrUnknown
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s", url, resp.Status)
	case resp.ContentLength > maxBytes:
		return fmt.Errorf("%s: %d bytes, of which %d are taken at most", url, resp.ContentLength, maxBytes)
	}
	return keep(resp.Body, url, path)
}

// keep writes what comes to a file, which appears when it is whole.
func keep(r io.Reader, url, path string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "procmem-*.partial")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	n, err := io.Copy(f, io.LimitReader(r, maxBytes+1))
	if err == nil && n > maxBytes {
		err = fmt.Errorf("%s: more than %d bytes", url, maxBytes)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
