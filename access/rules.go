package access

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/process"
)

// The capabilities that count here (include/uapi/linux/capability.h).
const (
	capDACOverride   = 1
	capDACReadSearch = 2
	capSysPtrace     = 19
)

// sides is what the kernel compares: procmem and the target.
type sides struct {
	pid       int
	me, them  *process.Status
	readable  bool // the kernel's answer
	sameUser  bool
	namespace namespace
	// overrides: CAP_SYS_PTRACE, or what stands for it, counts for the target.
	overrides bool
	dumpable  Verdict
	mayOpen   bool // the mode of /proc/PID/mem lets procmem open it
}

// compare gathers the facts on both sides. readable is the kernel's answer, which settles what
// cannot be seen.
func compare(pid int, me, them *process.Status, readable bool) *sides {
	s := &sides{pid: pid, me: me, them: them, readable: readable, sameUser: true, dumpable: Unknown, mayOpen: true}
	for i := range 3 { // real, effective and saved, with the one for files
		s.sameUser = s.sameUser && them.UID[i] == me.UID[3] && them.GID[i] == me.GID[3]
	}
	s.namespace = namespaceOf(pid)
	switch {
	case s.namespace == nsBelow, readable && !s.sameUser:
		s.overrides = true // nothing else explains it
	case !s.has(capSysPtrace):
	case s.namespace == nsUnseen:
		// In the first namespace it counts for all. In another it would count for the target as
		// well, and show its namespace, were the target in the same one or below.
		s.overrides = inInitialNamespace()
	default:
		s.overrides = true
	}
	if owner, ok := ownerOfMem(pid); ok {
		s.mayOpen = owner == me.UID[3] || s.has(capDACOverride) || s.has(capDACReadSearch)
		if them.UID[1] != 0 { // root owns it in either case
			s.dumpable = verdict(owner == them.UID[1])
		}
	}
	if readable && !s.overrides {
		s.dumpable = Holds
	}
	return s
}

func (s *sides) has(capability int) bool { return s.me.CapEff&(1<<capability) != 0 }

// check goes through the rules in the kernel's order. A rule that does not hold is the cause
// only if the kernel's answer was no.
func (r *Report) check(s *sides) {
	n := len(r.Rules)
	r.user(s)
	r.dumpable(s)
	r.namespace(s)
	r.capabilities(s)
	scope, ok := yamaScope("/proc/sys/kernel/yama/ptrace_scope")
	self, _ := process.Self()
	rule, cause, help := yama(scope, ok, descendant(s.pid, self), s, r.moreRights(s.me))
	r.add(rule, cause, help)
	r.capSysPtrace(s)
	if s.readable {
		for i := range r.Rules[n:] {
			if rule := &r.Rules[n+i]; rule.Verdict == Unknown {
				rule.Verdict = Holds // the kernel says so
			}
		}
		r.Cause, r.Remedy, r.Otherwise = "", "", ""
	}
}

const override = "; CAP_SYS_PTRACE overrides"

func (r *Report) user(s *sides) {
	who := fmt.Sprintf("the target runs as %s and %s as %s", ids(s.them), ownName, ids(s.me))
	switch {
	case s.sameUser:
		r.rule("user", Holds, "both run as %s", ids(s.me))
	case s.overrides:
		r.rule("user", Holds, "%s%s", who, override)
	default:
		r.rule("user", Fails, "%s", who)
		if !s.has(capSysPtrace) { // else the namespace is the cause
			r.refuse(who+", which needs the capability CAP_SYS_PTRACE", r.moreRights(s.me))
		}
	}
}

func (r *Report) dumpable(s *sides) {
	const why = "it is setuid or setcap, or its file may not be read, or it called prctl(PR_SET_DUMPABLE, 0)"
	switch {
	case s.dumpable == Holds:
		r.rule("dumpable", Holds, "yes")
	case s.overrides && s.dumpable == Fails:
		r.rule("dumpable", Holds, "no (%s)%s", why, override)
	case s.overrides:
		r.rule("dumpable", Holds, "not shown for a process of root%s", override)
	case s.dumpable == Fails:
		r.rule("dumpable", Fails, "no: %s", why)
		if !s.has(capSysPtrace) {
			r.refuse("the target is not dumpable ("+why+"), so that reading it needs the capability CAP_SYS_PTRACE", r.moreRights(s.me))
		}
	default:
		r.rule("dumpable", Unknown, "not shown for a process of root")
	}
}

func (r *Report) namespace(s *sides) {
	const name = "user namespace"
	outside := fmt.Sprintf("not %[1]s's, nor one below it: %[1]s's capabilities do not count there", ownName)
	switch {
	case s.namespace == nsSame:
		r.rule(name, Holds, "the same")
	case s.namespace == nsBelow:
		r.rule(name, Holds, "one below %[1]s's, where %[1]s's capabilities count", ownName)
	case s.has(capSysPtrace) && !s.overrides:
		r.rule(name, Fails, "%s", outside)
		r.refuse("the target's user namespace is "+outside,
			remedy{also: "run " + ownName + " as root outside of this container (of this user namespace)"})
	case s.overrides:
		r.rule(name, Holds, "not shown to %s, whose capabilities count in all of them", ownName)
	default:
		r.rule(name, Unknown, "not shown to %s", ownName)
	}
}

// capabilities is the rule of security/commoncap.c, cap_ptrace_access_check.
func (r *Report) capabilities(s *sides) {
	const name = "capabilities"
	extra := s.them.CapPerm &^ s.me.CapEff
	switch {
	case extra == 0:
		r.rule(name, Holds, "the target has none that %s lacks", ownName)
	case s.overrides:
		r.rule(name, Holds, "the target has %s, which %s lacks%s", capNames(extra), ownName, override)
	default:
		r.rule(name, Fails, "the target has %s, which %s lacks", capNames(extra), ownName)
		r.refuse("the target has capabilities that "+ownName+" lacks ("+capNames(extra)+"), so that reading it needs CAP_SYS_PTRACE", r.moreRights(s.me))
	}
}

func (r *Report) capSysPtrace(s *sides) {
	const name = "CAP_SYS_PTRACE"
	switch {
	case s.has(capSysPtrace) && s.overrides && !s.mayOpen:
		r.rule(name, Fails, "%s has it, and lacks CAP_DAC_READ_SEARCH, without which another user's /proc/PID/mem cannot be opened", ownName)
		r.refuse(ownName+" has CAP_SYS_PTRACE, and lacks CAP_DAC_READ_SEARCH, without which another user's /proc/PID/mem cannot be opened", r.moreRights(s.me))
	case s.has(capSysPtrace) && s.overrides:
		r.rule(name, Holds, "%s has it", ownName)
	case s.has(capSysPtrace):
		r.rule(name, Fails, "%s has it in its own user namespace alone", ownName)
	case s.overrides:
		r.rule(name, Holds, "%s's user made the target's user namespace, which is as good", ownName)
	case s.readable:
		r.rule(name, Holds, "%s does not have it, and does not need it here", ownName)
	default:
		r.rule(name, Fails, "%s does not have it", ownName)
	}
}

// moreRights tells how the caller can come by CAP_SYS_PTRACE. It takes the
// second capability to open the files of other users in /proc.
func (r *Report) moreRights(me *process.Status) remedy {
	switch {
	case me.UID[1] == 0:
		return remedy{also: "start this container with --cap-add=SYS_PTRACE, or run " + ownName + " as root outside of it"}
	case me.NoNewPrivs:
		return remedy{also: "run " + ownName + " as root; not with sudo from here, which no_new_privs keeps from gaining rights"}
	}
	return remedy{r.caller.sudo(), "once, for a group whose members, from their next login on, may read and hold every process: " + setcap()}
}

// setcap returns the commands that give the file of this program capabilities, for a group
// alone. All users that may run the file have them. chown(1) comes first, because it takes them
// away. The group is procmem's in every program: one by the name of the program may exist, and
// mean something else.
func setcap() string {
	file := executable()
	return "sudo groupadd -f procmem && sudo usermod -a -G procmem $(id -un) && sudo chown root:procmem " + file +
		" && sudo chmod 0750 " + file + " && sudo setcap cap_sys_ptrace,cap_dac_read_search=ep " + file
}

// yamaScope reads kernel.yama.ptrace_scope; ok is false where the kernel does
// not have it.
func yamaScope(path string) (scope int, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	scope, err = strconv.Atoi(strings.TrimSpace(string(b)))
	return scope, err == nil
}

// yama is the rule of security/yama/yama_lsm.c, yama_ptrace_access_check.
func yama(scope int, present, descends bool, s *sides, rights remedy) (rule Rule, cause string, help remedy) {
	const name = "kernel.yama.ptrace_scope"
	say := func(v Verdict, format string, args ...any) Rule {
		return Rule{"Yama", v, fmt.Sprintf(name+" is %d: ", scope) + fmt.Sprintf(format, args...)}
	}
	// For all programs, until the next start of the machine.
	loosen := remedy{"sudo sysctl " + name + "=0", rights.text()}
	switch {
	case !present:
		return Rule{"Yama", Holds, "not in this kernel"}, "", remedy{}
	case scope <= 0:
		return say(Holds, "no further limit"), "", remedy{}
	case scope >= 3:
		return say(Fails, "nobody may, until the next start of the machine"),
			fmt.Sprintf("%s is %d: nobody may read another process", name, scope),
			remedy{also: "set " + name + " below 3 in /etc/sysctl.d and start the machine again"}
	case s.overrides:
		return say(Holds, "CAP_SYS_PTRACE is needed, and there"), "", remedy{}
	case scope == 2:
		return say(Fails, "only with CAP_SYS_PTRACE"),
			name + " is 2: reading another process needs the capability CAP_SYS_PTRACE",
			loosen
	case descends:
		return say(Holds, "descendants may be read, and this is one of %s", ownName), "", remedy{}
	case s.readable:
		return say(Holds, "the target allows it with prctl(PR_SET_PTRACER)"), "", remedy{}
	}
	return say(Fails, "only descendants, and processes that allow it with prctl(PR_SET_PTRACER)"),
		name + " is 1: without CAP_SYS_PTRACE a process can read its descendants alone, and the target is none of " + ownName,
		loosen
}

// descendant reports whether pid has ancestor among its parents.
func descendant(pid, ancestor int) bool {
	for range 1 << 10 {
		if pid == ancestor {
			return true
		}
		if pid = parent(pid); pid == 0 {
			return false
		}
	}
	return false
}

// parent returns 0 if there is none, or none that this /proc shows.
func parent(pid int) int {
	p, err := process.Open(pid)
	if err != nil {
		return 0
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return 0
	}
	return st.PPID
}

// namespace is where the user namespace of the target is, seen from procmem.
type namespace uint8

const (
	nsUnseen namespace = iota // seeing it takes rights that may be missing
	nsSame                    // procmem's own
	nsBelow                   // one where procmem has capabilities, for another is not shown
)

func namespaceOf(pid int) namespace {
	var mine unix.Stat_t
	theirs, err := privilege.StatProc(pid, "ns/user")
	if err != nil || unix.Stat("/proc/self/ns/user", &mine) != nil {
		return nsUnseen
	}
	if mine.Ino == theirs.Ino && mine.Dev == theirs.Dev {
		return nsSame
	}
	return nsBelow
}

// inInitialNamespace reports whether procmem is in the user namespace that the kernel began
// with, whose number is fixed (USER_NS_INIT_INO).
func inInitialNamespace() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino == 0xEFFFFFFD
}

// ownerOfMem returns the owner of /proc/PID/mem: the effective user of the process, or root
// where it is not dumpable (fs/proc/base.c, task_dump_owner).
func ownerOfMem(pid int) (uid uint32, ok bool) {
	st, err := privilege.StatProc(pid, "mem")
	return st.Uid, err == nil
}

// ids is "uid 0 gid 0", or where these have changed all that the kernel compares.
func ids(s *process.Status) string {
	three := func(v [4]uint32) string {
		if v[0] == v[1] && v[1] == v[2] {
			return strconv.Itoa(int(v[0]))
		}
		return fmt.Sprintf("%d/%d/%d (real/effective/saved)", v[0], v[1], v[2])
	}
	return "uid " + three(s.UID) + " gid " + three(s.GID)
}
