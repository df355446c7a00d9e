package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

const yama = "/proc/sys/kernel/yama/ptrace_scope"

// setScope sets Yama's limit. From 3 there is no way back.
func setScope(t *testing.T, scope int) {
	t.Helper()
	if err := os.WriteFile(yama, []byte(strconv.Itoa(scope)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Doctor foretells what core then does, under each limit of Yama that can be lifted again.
func TestYama(t *testing.T) {
	t.Cleanup(func() { setScope(t, 0) })
	for scope, may := range [][2]bool{{true, true}, {true, false}, {true, false}} {
		setScope(t, scope)
		for i, u := range []user{root, nobody} {
			t.Run(fmt.Sprintf("%d/%s", scope, u.name), func(t *testing.T) {
				u.foretold(t, fmt.Sprintf("Yama %d, %s", scope, u.name), u.start(t, testproc.Zoo, "--nospin", "--only", "-"), may[i])
			})
		}
	}
}

// Run this last.
func TestYamaForGood(t *testing.T) {
	setScope(t, 3)
	for _, u := range []user{root, nobody} {
		t.Run(u.name, func(t *testing.T) {
			u.foretold(t, "Yama 3, "+u.name, u.start(t, testproc.Zoo, "--nospin", "--only", "-"), false)
		})
	}
}

func TestProcessOfAnother(t *testing.T) {
	nobody.foretold(t, "a process of root, nobody", root.start(t, testproc.Zoo, "--nospin", "--only", "-"), false)
}

// The options of /proc hide the processes of others.
func TestHidepid(t *testing.T) {
	remount := func(mode int) {
		if out, err := exec.Command("mount", "-o", fmt.Sprintf("remount,hidepid=%d", mode), "proc", "/proc").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Cleanup(func() { remount(0) })
	for _, mode := range []int{1, 2} {
		t.Run(strconv.Itoa(mode), func(t *testing.T) {
			remount(mode)
			nobody.foretold(t, fmt.Sprintf("hidepid=%d, a process of root, nobody", mode), root.start(t, testproc.Zoo, "--nospin", "--only", "-"), false)
			nobody.foretold(t, fmt.Sprintf("hidepid=%d, nobody", mode), nobody.start(t, testproc.Zoo, "--nospin", "--only", "-"), true)
		})
	}
}

// foretold checks that doctor and core agree, and that nothing has stopped the target where
// they say no.
func (u user) foretold(t *testing.T, condition string, p *testproc.Proc, may bool) {
	t.Helper()
	p.WaitBlocked(t, len(p.TIDs()))
	before := switches(t, p)
	dir, err := os.MkdirTemp("", "guest-")
	if err == nil {
		err = os.Chown(dir, int(u.id), int(u.id))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	r := u.call(t, "doctor", "--json", p.PID())
	var said struct {
		Readable, Stoppable bool
		Cause               string
	}
	if err := json.Unmarshal([]byte(r.stdout), &said); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
	if works := r.status == 0; works != may || works != (said.Readable && said.Stoppable) || works != (said.Cause == "") {
		t.Errorf("%v\nwant that core works: %v", r, may)
	}
	if said.Cause == "" {
		said.Cause = "procmem core will work"
	}
	tellDoctor(t, condition, said.Cause)
	if after := switches(t, p); after != before {
		t.Errorf("doctor has woken threads: %s, before %s", after, before)
	}
	got := u.call(t, "core", "-o", dir+"/core", p.PID())
	if may {
		got.want(t, 0, "")
	} else {
		got.want(t, 1, "remedy: ")
		sentence(t, got)
		if after := switches(t, p); after != before {
			t.Errorf("core has woken threads: %s, before %s", after, before)
		}
	}
	unharmed(t, p)
}

// switches returns how often each thread was scheduled, which grows for a blocked one when it
// is stopped and let go.
func switches(t *testing.T, p *testproc.Proc) string {
	t.Helper()
	var out []string
	for _, tid := range p.TIDs() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", p.PID(), tid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "voluntary_ctxt_switches") {
				out = append(out, fmt.Sprintf("%d: %s", tid, strings.Fields(line)[1]))
			}
		}
	}
	return strings.Join(out, ", ")
}
