package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// contents writes what the binary of arch is made of, as its build information says: a bill of
// materials in the format of CycloneDX.
func (r *release) contents(arch string) error {
	binary, err := os.ReadFile(r.in(arch, binaryPath))
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(r.in(arch, binaryPath))
	if err != nil {
		return err
	}
	digest := sha256.Sum256(binary)
	program := component(cdx.ComponentTypeApplication, info.Main.Path, r.version)
	program.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(digest[:])}}
	parts := []cdx.Component{component(cdx.ComponentTypeLibrary, "std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, m := range info.Deps {
		parts = append(parts, component(cdx.ComponentTypeLibrary, used(m).Path, used(m).Version))
	}
	refs := make([]string, len(parts))
	for i, p := range parts {
		refs[i] = p.BOMRef
	}

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: r.time.Format(time.RFC3339), Component: &program}
	bom.Components = &parts
	bom.Dependencies = &[]cdx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}
	f, err := r.create(fmt.Sprintf("procmem-%s-linux-%s.cdx.json", r.version, arch))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
		return err
	}
	return f.Close()
}

func used(m *debug.Module) *debug.Module {
	if m.Replace != nil {
		return m.Replace
	}
	return m
}

func component(t cdx.ComponentType, path, version string) cdx.Component {
	url := "pkg:golang/" + path + "@" + version
	return cdx.Component{BOMRef: url, Type: t, Name: path, Version: version, PackageURL: url}
}

// sums writes the checksums of all that was made, for sha256sum -c.
func (r *release) sums() error {
	var lines strings.Builder
	for _, name := range r.made {
		b, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(b), name)
	}
	f, err := r.create("SHA256SUMS")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(lines.String()); err != nil {
		return err
	}
	return f.Close()
}
