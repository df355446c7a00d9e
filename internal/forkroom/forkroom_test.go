package forkroom

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/procmem/procmem"
)

// tree makes a hierarchy of control groups of files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), "cgroup.procs"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// What the limits of control groups leave of memory, in MiB. The files are those
// of Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
func TestForkFits(t *testing.T) {
	const (
		v2   = "1:name=systemd:/else\n0::/pod/app\n"
		v1   = "9:cpu,cpuacct:/\n4:memory:/pod/app\n8:pids:/pod/app\n0::/\n"
		none = "9223372036854771712\n" // PAGE_COUNTER_MAX
	)
	for _, c := range []struct {
		name  string
		text  string
		files map[string]string
		last  bool   // the copy cannot be made the first to go
		want  string // part of the error, "" for none
	}{
		{"no limits", v2, map[string]string{"pod/app/memory.max": "max\n", "pod/app/memory.current": "7\n", "pod/app/memory.high": "max\n"}, false, ""},
		{"room", v2, map[string]string{"pod/app/memory.max": "200000000", "pod/app/memory.current": "100000000"}, false, ""},
		{"a limit", v2, map[string]string{"pod/app/memory.max": "140000000", "pod/app/memory.current": "100000000"}, false,
			"/pod/app (memory.max), has 38 MiB left, and a fork may take 69 MiB (if all is written meanwhile)"},
		{"a limit that throttles", v2, map[string]string{"pod/app/memory.high": "140000000", "pod/app/memory.current": "100000000"}, false, "/pod/app (memory.high), has 38 MiB left"},
		{"a limit above", v2, map[string]string{"pod/app/memory.max": "max", "pod/app/memory.current": "1", "pod/memory.max": "140000000", "pod/memory.current": "100000000"}, false, "/pod (memory.max), has 38 MiB"},
		{"cache", v2, map[string]string{"pod/app/memory.max": "140000000", "pod/app/memory.current": "100000000",
			"pod/app/memory.stat": "anon 1\nfile 70000000\ninactive_file 20000000\nactive_file 30000000\n"}, false, ""},
		{"cache that is still to be written", v2, map[string]string{"pod/app/memory.max": "140000000", "pod/app/memory.current": "100000000",
			"pod/app/memory.stat": "inactive_file 20000000\nactive_file 30000000\nfile_dirty 15000000\nfile_writeback 15000000\n"}, false, "has 57 MiB left"},
		{"all are ended", v2, map[string]string{"pod/app/memory.max": "200000000", "pod/app/memory.current": "100000000", "pod/memory.oom.group": "1\n"}, false, "a fork may take 137 MiB (if all is written meanwhile; that is doubled"},
		{"all are ended, with room", v2, map[string]string{"pod/app/memory.max": "300000000", "pod/app/memory.current": "100000000", "pod/app/memory.oom.group": "1\n"}, false, ""},
		{"the copy is not the first", v2, map[string]string{"pod/app/memory.max": "200000000", "pod/app/memory.current": "100000000"}, true, "that is doubled"},
		{"no processes", v2, map[string]string{"pod/app/pids.max": "100", "pod/app/pids.current": "100"}, false, "has room for 0 more processes"},
		{"hardly any processes", v2, map[string]string{"pod/pids.max": "100", "pod/pids.current": "95", "pod/app/pids.max": "max"}, false, "/pod, has room for 5 more processes or threads, and 6 should stay free"},
		{"processes", v2, map[string]string{"pod/app/pids.max": "100", "pod/app/pids.current": "60"}, false, ""},

		{"v1 without limits", v1, map[string]string{"pod/app/memory.limit_in_bytes": none, "pod/app/memory.usage_in_bytes": "7\n",
			"pod/app/memory.memsw.limit_in_bytes": none, "pod/app/memory.memsw.usage_in_bytes": "7\n"}, false, ""},
		{"v1", v1, map[string]string{"pod/app/memory.limit_in_bytes": "140000000", "pod/app/memory.usage_in_bytes": "100000000"}, false, "/pod/app (memory.limit_in_bytes), has 38 MiB left"},
		{"v1 above", v1, map[string]string{"pod/app/memory.limit_in_bytes": none, "memory.limit_in_bytes": "140000000", "memory.usage_in_bytes": "100000000"}, false, "/ (memory.limit_in_bytes), has 38 MiB left"},
		{"v1 cache", v1, map[string]string{"pod/memory.limit_in_bytes": "140000000", "pod/memory.usage_in_bytes": "100000000",
			"pod/memory.stat": "active_file 1\ntotal_active_file 25000000\ntotal_inactive_file 25000000\n", "pod/app/pids.max": "max"}, false, ""},
		{"v1 with swap", v1, map[string]string{"pod/app/memory.limit_in_bytes": "300000000", "pod/app/memory.usage_in_bytes": "100000000",
			"pod/app/memory.memsw.limit_in_bytes": "300000000", "pod/app/memory.memsw.usage_in_bytes": "250000000"}, false, "(memory.memsw.limit_in_bytes), has 47 MiB left"},
		{"v1 kernel memory", v1, map[string]string{"pod/app/memory.kmem.limit_in_bytes": "100000000", "pod/app/memory.kmem.usage_in_bytes": "99000000"}, false, "(memory.kmem.limit_in_bytes), has 0 MiB left, and a fork may take 5 MiB"},
		{"v1 where nobody is ended", v1, map[string]string{"pod/app/memory.limit_in_bytes": "200000000", "pod/app/memory.usage_in_bytes": "100000000",
			"pod/app/memory.oom_control": "oom_kill_disable 1\nunder_oom 0\n"}, false, "that is doubled"},
	} {
		root := tree(t, c.files)
		m := cgroupMount{root: "/", dir: root}
		if c.text == v1 {
			m.controllers = []string{"rw", "memory", "pids"}
		}
		x := &Footprint{Pages: 64 << 20 / procmem.PageSize, Mappings: 20, Private: 64 << 20}
		err := forkFits(&cgroups{mounts: []cgroupMount{m}}, c.text, x, !c.last)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}

// Where the groups of a process are to be seen, from wherever procmem is.
func TestCgroupsOf(t *testing.T) {
	const escaped = `1 0 0:1 / /sys/fs/cgroup/a\040b rw - tmpfs none rw` + "\n"
	root := tree(t, map[string]string{"a/b/memory.max": "max", "a/memory.max": "max", "memory.max": "max"})
	mount := func(at, fs, options string) string {
		return "36 35 0:29 " + at + " " + root + " rw,nosuid shared:5 - " + fs + " cgroup rw," + options + "\n"
	}
	for _, c := range []struct {
		name, mounts, text string
		initial            bool
		want               []string
		hidden             string
	}{
		{"the machine", mount("/", "cgroup2", "nsdelegate"), "0::/a/b\n", true, []string{"/a/b", "/a", "/"}, ""},
		{"a container with a namespace", mount("/", "cgroup2", "x"), "0::/\n", false, []string{"/"}, ""},
		{"a container beside", mount("/", "cgroup2", "x"), "0::/../other\n", false, nil, "/../other"},
		{"a container without a namespace", mount("/docker/1", "cgroup", "memory"), "4:memory:/docker/1/a\n0::/\n", true, []string{"/docker/1/a", "/docker/1"}, ""},
		{"a container without a namespace, beside", mount("/docker/1", "cgroup", "memory"), "4:memory:/docker/12/a\n", true, nil, "/docker/12/a"},
		{"a mount that leads out", mount("/..", "cgroup2", "x"), "0::/../a/b\n", false, []string{"/../a/b", "/../a", "/.."}, ""},
		{"within, by such a mount", mount("/..", "cgroup2", "x"), "0::/a\n", false, nil, "/a"},
		{"several controllers", mount("/", "cgroup", "cpu,memory"), "4:cpu,memory:/a\n", true, []string{"/a", "/"}, ""},
		{"another controller", mount("/", "cgroup", "cpu"), "4:memory:/a\n", true, nil, "/a"},
		{"both versions", mount("/", "cgroup2", "x"), "4:memory:/a\n0::/a\n", true, nil, "/a"},
		{"nothing is mounted", escaped, "0::/a\n", true, nil, "/a"},
		{"nothing is mounted, and no limits", escaped, "0::/\n", true, nil, ""},
		{"nothing is mounted in a container", escaped, "0::/\n", false, nil, "/"},
		{"a group that is gone", mount("/", "cgroup2", "x"), "0::/a/c\n", true, nil, "/a/c"},
		{"no such controller", mount("/", "cgroup", "cpu"), "4:cpu:/a\n", true, nil, ""},
	} {
		got, hidden := (&cgroups{mounts: parseCgroupMounts(strings.NewReader(c.mounts)), initial: c.initial}).of(c.text, "memory")
		var names []string
		for _, g := range got {
			names = append(names, g.name)
		}
		if !slices.Equal(names, c.want) || hidden != c.hidden {
			t.Errorf("%s: %v, hidden %q; want %v, %q", c.name, names, hidden, c.want, c.hidden)
		}
	}
	if m := parseCgroupMounts(strings.NewReader(`1 0 0:1 /a\134b /sys/fs/cgroup/a\040b rw - cgroup2 none rw` + "\n")); len(m) != 1 || m[0].dir != "/sys/fs/cgroup/a b" || m[0].root != `/a\b` {
		t.Errorf("%+v", m)
	}
	// This machine's own are seen, or the kernel has none.
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Skip(err)
	}
	if groups, hidden := visibleCgroups().of(string(text), "memory"); hidden != "" || len(groups) == 0 && strings.Contains(string(text), "memory") {
		t.Errorf("own groups %v, hidden %q of %q", groups, hidden, text)
	}
}
