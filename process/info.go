package process

import (
	"strings"

	"github.com/procmem/procmem"
)

// Info returns what NT_PRPSINFO of a core contains. It must be called before the process is
// stopped, because State is else that of a stopped one.
func (p *Process) Info() (procmem.ProcessInfo, error) {
	st, err := p.Stat()
	if err != nil {
		return procmem.ProcessInfo{}, err
	}
	status, err := p.Status()
	if err != nil {
		return procmem.ProcessInfo{}, err
	}
	info := procmem.ProcessInfo{
		PID: p.pid, PPID: st.PPID, PGRP: st.PGRP, SID: st.SID,
		UID: status.UID[0], GID: status.GID[0],
		State: st.State, Nice: st.Nice, Flags: st.Flags, Name: st.Name,
	}
	if inner := status.InnerPID(); inner != 0 {
		info.PID = inner
	}
	if exe, err := p.Exe(); err == nil && base(exe) != "" {
		info.Name = base(exe)
	}
	if args, err := p.Cmdline(); err == nil {
		info.Args = strings.Join(args, " ")
	}
	return info, nil
}

// ThreadInfo returns what /proc tells of a thread, without registers. It must be called before
// the thread is stopped, because State is else that of a stopped one.
func (p *Process) ThreadInfo(tid int) (procmem.Thread, error) {
	st, err := p.ThreadStat(tid)
	if err != nil {
		return procmem.Thread{}, err
	}
	status, err := p.ThreadStatus(tid)
	if err != nil {
		return procmem.Thread{}, err
	}
	t := procmem.Thread{
		TID: tid, Name: st.Name, State: st.State,
		PPID: st.PPID, PGRP: st.PGRP, SID: st.SID,
		Pending: status.SigPending, Blocked: status.SigBlocked,
		UserTime: st.UserTime, SystemTime: st.SystemTime,
		ChildUserTime: st.ChildUserTime, ChildSystemTime: st.ChildSystemTime,
	}
	if inner := status.InnerPID(); inner != 0 {
		t.TID = inner
	}
	return t, nil
}
