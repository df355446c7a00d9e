package main

import (
	"fmt"
	"os"
	"time"

	"github.com/procmem/procmem"
)

// checkNames returns an error where a core names a pipe or a device as a file. Debuggers open
// all files that a core names: a pipe would keep them waiting, and opening a device may have an
// effect.
func checkNames(ms []procmem.Mapping) error {
	done := make(chan error, 1)
	go func() { done <- oddName(ms) }()
	select {
	case err := <-done:
		return err
	case <-time.After(namesPatience): // a server does not answer; the debugger may wait longer
		return nil
	}
}

// namesPatience is how long looking at the names of a core may take.
const namesPatience = 2 * time.Second

func oddName(ms []procmem.Mapping) error {
	for i := range ms {
		m := &ms[i]
		if m.Path == "" || m.Path[0] != '/' || i > 0 && m.Path == ms[i-1].Path {
			continue
		}
		st, err := os.Stat(m.Path)
		if err == nil && !st.Mode().IsRegular() && !st.IsDir() {
			return fmt.Errorf("the core names %s as a file, and that is a pipe or a device, which a debugger would open: procmem open --print shows the command, if that is meant", m.Path)
		}
	}
	return nil
}
