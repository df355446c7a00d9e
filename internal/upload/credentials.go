package upload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// How long may be asked over the network for credentials. Outside of a cloud nothing answers at
// the address of its metadata service, which must not look like a program that hangs.
const (
	metadataTime = 3 * time.Second
	identityTime = 10 * time.Second
)

// findCredentials looks where the tools of AWS look. The order is theirs: the environment, the
// shared files, and what is given to the container or the machine. It never returns anonymous
// credentials.
func findCredentials(ctx context.Context) (*credentials.Credentials, error) {
	id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	switch {
	case id != "" && secret != "":
		return credentials.NewStaticV4(id, secret, os.Getenv("AWS_SESSION_TOKEN")), nil
	case id != "":
		return nil, errors.New("AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not")
	case secret != "":
		return nil, errors.New("AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is not")
	}

	creds := credentials.NewFileAWSCredentials("", "")
	v, fileErr := retrieve(ctx, creds, identityTime)
	switch {
	case fileErr == nil && v.Expiration.IsZero():
		// Otherwise the files would be read again, and the program named in them run, for each
		// request.
		return credentials.NewStaticV4(v.AccessKeyID, v.SecretAccessKey, v.SessionToken), nil
	case fileErr == nil:
		return creds, nil
	}
	if p := os.Getenv("AWS_PROFILE"); p != "" {
		return nil, fmt.Errorf("take credentials from profile %q: %w", p, fileErr)
	}

	creds, limit, explicit := roleCredentials()
	if creds == nil {
		return nil, noCredentials(fileErr, nil)
	}
	_, err := retrieve(ctx, creds, limit)
	switch {
	case err == nil:
		return creds, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case explicit:
		return nil, fmt.Errorf("ask for the credentials of the role: %w", words(err))
	}
	return nil, noCredentials(fileErr, err)
}

// roleCredentials returns those of the role that a container or a machine has, nil if nobody
// may be asked. Explicit is set if the environment says that there is a role.
func roleCredentials() (creds *credentials.Credentials, limit time.Duration, explicit bool) {
	if os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "" {
		return credentials.New(&credentials.IAM{
			Client:   &http.Client{Timeout: identityTime},
			Endpoint: os.Getenv("AWS_ENDPOINT_URL_STS"),
		}), identityTime, true
	}
	// These are asked without a proxy: they tell by the address who asks.
	iam := &credentials.IAM{Client: &http.Client{Timeout: metadataTime, Transport: &http.Transport{}}}
	if os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != "" || os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "" {
		return credentials.New(iam), metadataTime, true
	}
	if strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		return nil, 0, false
	}
	iam.Endpoint = strings.TrimSuffix(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "/")
	return credentials.New(iam), metadataTime, false
}

func retrieve(ctx context.Context, creds *credentials.Credentials, limit time.Duration) (credentials.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	v, err := creds.GetWithContext(&credentials.CredContext{Client: http.DefaultClient, Context: ctx})
	if err == nil && (v.AccessKeyID == "" || v.SecretAccessKey == "") {
		err = errors.New("there are no keys in it")
	}
	return v, err
}

func noCredentials(fileErr, roleErr error) error {
	text := "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
	// That there are no files is no news; that a session has ended is.
	if !errors.Is(fileErr, fs.ErrNotExist) || isSession(fileErr) {
		text += fmt.Sprintf(" (the default profile: %v)", fileErr)
	}
	if roleErr != nil {
		text += fmt.Sprintf(" (nor has this machine a role: %v)", words(roleErr))
	}
	return errors.New(text)
}

// isSession reports whether an error is of the file that `aws sso login` leaves of a session
// (~/.aws/sso/cache), and not of the user's own files.
func isSession(err error) bool {
	at, ok := errors.AsType[*fs.PathError](err)
	return ok && strings.HasSuffix(filepath.Dir(at.Path), filepath.Join("sso", "cache"))
}
