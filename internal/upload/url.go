package upload

import (
	"errors"
	"fmt"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

const scheme = "s3://"

// IsURL reports whether s is meant to be a URL for this package.
func IsURL(s string) bool { return strings.HasPrefix(s, scheme) }

// ParseURL splits s3://bucket/key. The key is taken as it is: nothing in it is escaped.
func ParseURL(s string) (bucket, key string, err error) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(s, scheme), "/")
	if err := checkURL(s, bucket, key); err != nil {
		return "", "", fmt.Errorf("parse %q: %w", s, err)
	}
	return bucket, key, nil
}

func checkURL(s, bucket, key string) error {
	const want = "want s3://bucket/name"
	switch {
	case !IsURL(s):
		return errors.New("it does not begin with s3:// (" + want + ")")
	case bucket == "":
		return errors.New("there is no bucket in it (" + want + ")")
	case key == "":
		return errors.New("there is no name behind the bucket (" + want + ")")
	}
	if err := s3utils.CheckValidBucketName(bucket); err != nil {
		return fmt.Errorf("%q cannot be a bucket: %w", bucket, err)
	}
	// Most servers take such names, and hardly anybody wants them: they come from a variable
	// that is empty.
	for part := range strings.SplitSeq(key, "/") {
		switch part {
		case "":
			return errors.New("a part of the name is empty")
		case ".", "..":
			return fmt.Errorf("a part of the name is %q", part)
		}
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("there is a control character in the name")
	}
	return s3utils.CheckValidObjectName(key)
}
