package access

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestYama(t *testing.T) {
	type row struct {
		scope                         int
		descends, overrides, readable bool
		verdict                       Verdict
		cause, remedy                 string
	}
	for _, c := range []row{
		{0, false, false, true, Holds, "", ""},
		{0, false, false, false, Holds, "", ""},
		{1, true, false, true, Holds, "", ""},
		{1, true, false, false, Holds, "", ""}, // refused by another rule
		{1, false, true, true, Holds, "", ""},
		{1, false, true, false, Holds, "", ""},
		{1, false, false, true, Holds, "", ""}, // PR_SET_PTRACER
		{1, false, false, false, Fails, "is 1: without CAP_SYS_PTRACE", "sysctl kernel.yama.ptrace_scope=0"},
		{2, true, true, true, Holds, "", ""},
		{2, true, false, false, Fails, "is 2: reading another process needs", "sudo procmem"},
		{3, true, true, false, Fails, "is 3: nobody", "/etc/sysctl.d"},
		{4, true, true, false, Fails, "is 4: nobody", "/etc/sysctl.d"},
	} {
		me := testStatus(1000)
		rule, cause, help := yama(c.scope, true, c.descends, &sides{me: me, them: me, readable: c.readable, overrides: c.overrides}, remedy{"sudo procmem", ""})
		text := help.text()
		if rule.Verdict != c.verdict || !strings.Contains(rule.Detail, fmt.Sprintf("kernel.yama.ptrace_scope is %d: ", c.scope)) {
			t.Errorf("%+v: %+v", c, rule)
		}
		if (cause == "") != (c.cause == "") || !strings.Contains(cause, c.cause) || !strings.Contains(text, c.remedy) || (text == "") != (c.remedy == "") {
			t.Errorf("%+v: %q, %q", c, cause, text)
		}
	}
	if rule, cause, _ := yama(0, false, false, &sides{}, remedy{}); rule.Verdict != Holds || cause != "" || rule.Detail != "not in this kernel" {
		t.Errorf("%+v %q", rule, cause)
	}
}

func TestYamaScope(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ptrace_scope")
	for text, want := range map[string]struct {
		scope int
		ok    bool
	}{"0\n": {0, true}, "1\n": {1, true}, "3": {3, true}, "": {0, false}, "x\n": {0, false}} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if scope, ok := yamaScope(file); ok != want.ok || ok && scope != want.scope {
			t.Errorf("%q: %d, %v", text, scope, ok)
		}
	}
	if _, ok := yamaScope(file + ".none"); ok {
		t.Error("a kernel without Yama has a scope")
	}
}

func TestCapNames(t *testing.T) {
	for set, want := range map[uint64]string{
		1 << 13:             "cap_net_raw",
		1<<19 | 1<<0:        "cap_chown, cap_sys_ptrace",
		1<<41 - 1:           "cap_chown, cap_dac_override, cap_dac_read_search and 38 more",
		1 << 63:             "capability 63",
		1 << capSysPtrace:   "cap_sys_ptrace",
		1 << 40:             "cap_checkpoint_restore",
		1<<1 | 1<<2 | 1<<21: "cap_dac_override, cap_dac_read_search, cap_sys_admin",
	} {
		if got := capNames(set); got != want {
			t.Errorf("%#x: %q, want %q", set, got, want)
		}
	}
}

// What the kernel did not refuse is not explained away.
func TestExplain(t *testing.T) {
	p := kids(t, 0)
	for _, c := range []struct {
		err  error
		want string
	}{
		{io.ErrUnexpectedEOF, ""},
		{unix.ENOSPC, ""},
		{unix.ESRCH, ""},
		{unix.EPERM, "operation not permitted, though all rules that " + ownName + " can see allow it"},
	} {
		if got, ok := Explain(p.PID(), c.err); !strings.HasPrefix(got, c.want) || ok != (c.want != "") || !ok && got != "" {
			t.Errorf("%v: %q, %v", c.err, got, ok)
		}
	}
}

// The name is that by which the program was called.
func TestOwnName(t *testing.T) {
	for want, args := range map[string][]string{"tool": {"/usr/bin/tool", "x"}, "gcore": {"gcore"}, "this program": {""}} {
		if got := nameOf(args); got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
	if got := nameOf(nil); got != "this program" {
		t.Errorf("without arguments: %q", got)
	}
}
