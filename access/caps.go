package access

import (
	"fmt"
	"strings"
)

// capName holds the names of the capabilities by number (include/uapi/linux/capability.h).
var capName = [...]string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
	"linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
	"sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
	"sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
	"mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
	"checkpoint_restore",
}

// capNames lists the capabilities of a set, the first few by name.
func capNames(set uint64) string {
	const most = 3
	var names []string
	more := 0
	for i := range 64 {
		switch {
		case set&(1<<i) == 0:
		case len(names) == most:
			more++
		case i < len(capName):
			names = append(names, "cap_"+capName[i])
		default:
			names = append(names, fmt.Sprintf("capability %d", i))
		}
	}
	s := strings.Join(names, ", ")
	if more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}
