package upload

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string][2]string{
		"s3://cores/core.1":          {"cores", "core.1"},
		"s3://my.cores-1/a/b c/%2F?": {"my.cores-1", "a/b c/%2F?"},
	} {
		b, k, err := ParseURL(in)
		if err != nil || b != want[0] || k != want[1] {
			t.Errorf("ParseURL(%q): %q, %q, %v", in, b, k, err)
		}
	}
	for in, want := range map[string]string{
		"":                    "s3://",
		"cores/core":          "s3://",
		"S3://cores/core":     "s3://",
		"http://cores/core":   "s3://",
		"s3://":               "no bucket",
		"s3:///core":          "no bucket",
		"s3://cores":          "no name",
		"s3://cores/":         "no name",
		"s3://c/core":         "shorter",
		"s3://key:secret@x/a": "cannot be a bucket",
		"s3://cores//core":    "empty",
		"s3://cores/a/":       "empty",
		"s3://cores/a/../b":   `".."`,
		"s3://cores/a\nb":     "control",
		"s3://cores/\xff":     "UTF-8",
		"s3://cores/" + strings.Repeat("x", 1025): "1024",
	} {
		b, k, err := ParseURL(in)
		if b != "" || k != "" {
			t.Errorf("ParseURL(%q): %q, %q with an error", in, b, k)
		}
		says(t, err, want, fmt.Sprintf("%q", in))
	}
}

func TestLayout(t *testing.T) {
	const mib, gib, tib = 1 << 20, 1 << 30, 1 << 40
	for _, c := range []struct {
		size int64
		base int64
	}{
		{0, 8 * mib}, {-1, 8 * mib}, {1, 8 * mib}, {70 * gib, 8 * mib}, {71 * gib, 9 * mib},
		{tib, 117 * mib}, {5 * tib, 583 * mib}, {10 * tib, 1166 * mib},
	} {
		l := newLayout(c.size)
		if l.base != c.base || !l.fits() {
			t.Errorf("%d bytes: parts of %d; want %d", c.size, l.base, c.base)
		}
		var sum, last int64
		planned := 0
		for n := 1; n <= maxParts; n++ {
			p := l.part(n)
			if p < last || p > maxPart || p%mib != 0 || p < 5*mib {
				t.Fatalf("%d bytes: part %d has %d, and the one before %d", c.size, n, p, last)
			}
			if sum < c.size && p != l.base {
				t.Fatalf("%d bytes: part %d has %d before the end", c.size, n, p)
			}
			if sum < c.size {
				planned++
			}
			sum, last = sum+p, p
		}
		if planned > plannedParts || planned != l.planned {
			t.Errorf("%d bytes: %d parts", c.size, planned)
		}
		// How much more than predicted can come.
		if more := sum - c.size; more < 800*gib || c.size <= 0 && more < 5*tib {
			t.Errorf("%d bytes: room for %d more", c.size, more)
		}
	}
	if l := newLayout(0); l.part(1000) != 8*mib || l.part(1001) != 16*mib || l.part(2001) != 32*mib {
		t.Errorf("unknown: %d, %d, %d", l.part(1000), l.part(1001), l.part(2001))
	}
	if newLayout(46*tib).fits() || newLayout(math.MaxInt64).fits() || !newLayout(43*tib).fits() {
		t.Error("what fits is wrong")
	}
}

func TestPassing(t *testing.T) {
	said := func(status int, code string) error { return minio.ErrorResponse{StatusCode: status, Code: code} }
	for _, c := range []struct {
		err  error
		want bool
	}{
		{said(500, "InternalError"), true},
		{said(503, "SlowDown"), true},
		{said(502, "502 Bad Gateway"), true},
		{said(408, ""), true},
		{said(429, "TooManyRequests"), true},
		{said(200, "InternalError"), true}, // in the answer to CompleteMultipartUpload
		{said(400, "RequestTimeout"), true},
		{said(400, "BadDigest"), true},
		{fmt.Errorf("x: %w", said(503, "")), true},
		{said(507, "XMinioStorageFull"), false},
		{said(507, ""), false},
		{said(503, "QuotaExceeded"), false},
		{said(501, "NotImplemented"), false},
		{said(403, "AccessDenied"), false},
		{said(400, "EntityTooLarge"), false},
		{said(404, "NoSuchUpload"), false},
		{said(400, "ExpiredToken"), false},
		{&url.Error{Op: "Put", URL: "x", Err: &net.OpError{Err: syscall.ECONNREFUSED}}, true},
		{io.ErrUnexpectedEOF, true},
		{&net.DNSError{IsNotFound: true}, true},
		{&url.Error{Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}}, false},
		{&url.Error{Err: http.ErrSchemeMismatch}, false},
		{errTaken, false},
	} {
		if got := passing(c.err); got != c.want {
			t.Errorf("%#v: %v", c.err, got)
		}
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "credentials")
	text := "[default]\naws_access_key_id = a\naws_secret_access_key = b\n" +
		"[other]\naws_access_key_id = c\naws_secret_access_key = d\naws_session_token = e\n[half]\naws_access_key_id = f\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// The metadata service of a machine with a role.
	imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/latest/api/token":
			io.WriteString(w, "token")
		case "/latest/meta-data/iam/security-credentials/":
			io.WriteString(w, "role")
		case "/latest/meta-data/iam/security-credentials/role":
			fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"g","SecretAccessKey":"h","Token":"i","Expiration":%q}`,
				time.Now().Add(time.Hour).Format(time.RFC3339))
		}
	}))
	defer imds.Close()
	for _, c := range []struct {
		env  map[string]string
		want string // the three, or a part of the error
	}{
		{map[string]string{"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}, "k s t"},
		{map[string]string{"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_PROFILE": "other"}, "k s "},
		{map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file}, "a b "},
		{map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_PROFILE": "other"}, "c d e"},
		{map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_PROFILE": "half"}, `profile "half"`},
		{map[string]string{"AWS_SHARED_CREDENTIALS_FILE": file, "AWS_PROFILE": "absent"}, `profile "absent"`},
		{map[string]string{"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.URL + "/"}, "g h i"},
	} {
		setenv(t, c.env)
		creds, err := findCredentials(t.Context())
		if err != nil {
			says(t, err, c.want)
			continue
		}
		v, err := creds.GetWithContext(nil)
		if got := v.AccessKeyID + " " + v.SecretAccessKey + " " + v.SessionToken; got != c.want || err != nil {
			t.Errorf("%v: %q, %v", c.env, got, err)
		}
	}
}

// Where the metadata service does not answer, as in most places, the user is
// told soon what to set.
func TestNoMetadata(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	setenv(t, map[string]string{
		"AWS_EC2_METADATA_DISABLED": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://" + l.Addr().String(),
	})
	start := time.Now()
	_, err = Create(t.Context(), "s3://cores/core", Options{})
	says(t, err, "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "role")
	if took := time.Since(start); took > 3*metadataTime {
		t.Errorf("it took %v", took)
	}
	if errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
}
