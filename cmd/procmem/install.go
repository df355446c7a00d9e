package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// howToGet returns a command that installs a debugger of a kind on this machine, or what to do.
func howToGet(kind, debugger string) string {
	if kind == "dlv" {
		return "go install github.com/go-delve/delve/cmd/dlv@latest"
	}
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if b, err := os.ReadFile(file); err == nil {
			return installCommand(string(b), filepath.Base(debugger), os.Geteuid() == 0)
		}
	}
	return installCommand("", filepath.Base(debugger), false)
}

// managers are the package managers of distributions, by ID and ID_LIKE of os-release(5).
var managers = []struct {
	install string
	ids     []string
}{
	{"apt install", []string{"debian", "ubuntu"}},
	{"dnf install", []string{"fedora", "rhel", "centos"}},
	{"apk add", []string{"alpine"}},
	{"zypper install", []string{"suse", "opensuse"}},
	{"pacman -S", []string{"arch"}},
}

// installCommand returns the command of the distribution whose os-release is given.
func installCommand(release, name string, root bool) string {
	ids := distribution(release)
	for _, m := range managers {
		if slices.ContainsFunc(m.ids, func(id string) bool { return slices.Contains(ids, id) }) {
			sudo := "sudo "
			if root {
				sudo = ""
			}
			return sudo + m.install + " " + shellWord(name)
		}
	}
	return "install " + name + " with the package manager of this machine"
}

// distribution returns the words of ID and ID_LIKE.
func distribution(release string) (ids []string) {
	for line := range strings.Lines(release) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			ids = append(ids, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	return ids
}
