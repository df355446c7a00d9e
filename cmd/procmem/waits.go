package main

import (
	"github.com/procmem/procmem/process"
)

// tellWaits prints what the work waits for, each thing once.
func tellWaits(p *process.Process) {
	said := make(chan map[string]bool, 1)
	said <- map[string]bool{}
	p.OnWait(func(what string) {
		all := <-said
		defer func() { said <- all }()
		if !all[what] {
			all[what] = true
			notice("process %d: waiting for %s", p.PID(), what)
		}
	})
}
