package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing/fstest"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image packs the binaries, and nothing else, as an OCI image for all arches.
func (r *release) image() error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range arches {
		img, err := r.imageOf(arch)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: arch},
		}})
	}
	dir := filepath.Join(r.stage, "oci")
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	name := map[string]string{"org.opencontainers.image.ref.name": "procmem:" + r.version}
	if err := p.AppendIndex(index, layout.WithAnnotations(name)); err != nil {
		return err
	}
	f, err := r.create(fmt.Sprintf("procmem-%s-oci.tar", r.version))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := writeTar(f, os.DirFS(dir), "", r.time); err != nil {
		return err
	}
	return f.Close()
}

func (r *release) imageOf(arch string) (v1.Image, error) {
	binary, err := os.ReadFile(r.in(arch, binaryPath))
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	if err := writeTar(&content, fstest.MapFS{"procmem": {Data: binary, Mode: 0o755}}, "", r.time); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: r.time}
	config.Config = v1.Config{Entrypoint: []string{"/procmem"}, Labels: map[string]string{
		"org.opencontainers.image.title":    "procmem",
		"org.opencontainers.image.version":  r.version,
		"org.opencontainers.image.source":   "https://github.com/procmem/procmem",
		"org.opencontainers.image.licenses": "Apache-2.0",
	}}
	return mutate.ConfigFile(img, config)
}
