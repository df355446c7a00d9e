package main

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// archive packs the stage of arch as a tarball, to be unpacked below /usr/local.
func (r *release) archive(arch string) error {
	name := fmt.Sprintf("procmem-%s-linux-%s", r.version, arch)
	f, err := r.create(name + ".tar.gz")
	if err != nil {
		return err
	}
	defer f.Close()
	w, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := writeTar(w, os.DirFS(r.in(arch, ".")), name+"/", r.time); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

// writeTar writes the folders and files of a tree: of root, with the time t, and with prefix
// before each name.
func writeTar(w io.Writer, tree fs.FS, prefix string, t time.Time) error {
	tw := tar.NewWriter(w)
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		h := &tar.Header{Name: prefix + path, Mode: 0o644, ModTime: t, Format: tar.FormatPAX}
		if d.IsDir() {
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, h.Name+"/", 0o755
			return tw.WriteHeader(h)
		}
		b, err := fs.ReadFile(tree, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&0o100 != 0 {
			h.Mode = 0o755
		}
		h.Size = int64(len(b))
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		_, err = tw.Write(b)
		return err
	})
	if err != nil {
		return err
	}
	return tw.Close()
}
