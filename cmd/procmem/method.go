package main

import (
	"fmt"

	"github.com/procmem/procmem/snapshot"
)

// methodFlag is the value of --method.
type methodFlag snapshot.Method

func (m *methodFlag) String() string { return string(*m) }
func (m *methodFlag) Type() string   { return "stop|live" }

func (m *methodFlag) Set(s string) error {
	switch v := snapshot.Method(s); v {
	case snapshot.MethodStop, snapshot.MethodLive:
		*m = methodFlag(v)
		return nil
	}
	return fmt.Errorf("want stop or live")
}
