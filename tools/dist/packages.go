package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers itself
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers itself
)

// packages packs the stage of arch for dpkg and for rpm.
func (r *release) packages(arch string) error {
	for _, format := range []string{"deb", "rpm"} {
		if err := r.packageFor(arch, format); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) packageFor(arch, format string) error {
	contents, err := r.packaged(arch, format)
	if err != nil {
		return err
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "procmem", Arch: arch, Platform: "linux", MTime: r.time,
		Version: r.packageVersion(), VersionSchema: "none", Release: "1",
		Section: "utils", Priority: "optional", License: "Apache-2.0",
		Maintainer: "The procmem authors", Homepage: "https://github.com/procmem/procmem",
		Description: "read the memory of live processes, and take cores of them\n" +
			"procmem takes a complete core of a running Linux process, which every debugger\n" +
			"opens, while the process goes on working. It also reads, searches and compares\n" +
			"the memory of processes and of cores.",
		DisableGlobbing: true,
		Overridables:    nfpm.Overridables{Contents: contents, Suggests: []string{"gdb"}, RPM: nfpm.RPM{BuildHost: "localhost"}},
	})
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	f, err := r.create(packager.ConventionalFileName(info))
	if err != nil {
		return err
	}
	defer f.Close()
	info.Target = f.Name()
	if err := packager.Package(info, f); err != nil {
		return err
	}
	return f.Close()
}

// packaged lists the files of a package.
func (r *release) packaged(arch, format string) (list files.Contents, err error) {
	err = filepath.WalkDir(r.in(arch, "."), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		path, err := filepath.Rel(r.in(arch, "."), name)
		if err != nil {
			return err
		}
		if format == "deb" { // zsh of Debian looks there
			path = strings.Replace(path, "zsh/site-functions", "zsh/vendor-completions", 1)
		}
		mode := os.FileMode(0o644)
		if path == binaryPath {
			mode = 0o755
		}
		list = append(list, &files.Content{
			Source: name, Destination: "/usr/" + path,
			FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: r.time},
		})
		return nil
	})
	return list, err
}

// described is what git describe prints: a tag, how far it is from there, and whether more was changed.
var described = regexp.MustCompile(`^v?(\d+\.\d+(?:\.\d+)*)(?:-(rc\d+))?(?:-(\d+)-(g[0-9a-f]+))?(-dirty)?$`)

// untagged is what make calls a commit that has no tag before it.
var untagged = regexp.MustCompile(`^(\d+\.\d+\.\d+)-dev-(.+)$`)

// packageVersion is a version that package managers put in order: 1.2.3~rc1 comes before 1.2.3, and
// that before 1.2.3+4.gab12. Without a tag it comes before the next release.
func (r *release) packageVersion() string {
	if m := untagged.FindStringSubmatch(r.version); m != nil {
		return m[1] + "~dev" + r.time.Format("20060102150405") + "." + strings.ReplaceAll(m[2], "-", ".")
	}
	m := described.FindStringSubmatch(r.version)
	if m == nil {
		return "0.0~" + r.time.Format("20060102150405") + "." + strings.ReplaceAll(r.version, "-", ".")
	}
	version, after := m[1], []string{}
	if m[2] != "" {
		version += "~" + m[2]
	}
	if m[3] != "" {
		after = append(after, m[3], m[4])
	}
	if m[5] != "" {
		after = append(after, "dirty")
	}
	if len(after) > 0 {
		version += "+" + strings.Join(after, ".")
	}
	return version
}
