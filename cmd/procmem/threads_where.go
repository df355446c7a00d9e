package main

import (
	"github.com/procmem/procmem"
	"github.com/procmem/procmem/snapshot"
	"github.com/procmem/procmem/target"
)

// whereis tells where the threads of an image are.
type whereis struct {
	*places
	arch procmem.Arch
	live bool // they were not stopped
}

// whereabouts returns what names the places of an image. done must be called.
func whereabouts(t *target.Target, img *procmem.Image, m snapshot.Method) (w *whereis, done func(), err error) {
	mem, done, err := t.Memory()
	if err != nil {
		return nil, nil, err
	}
	return &whereis{newPlaces(img.Mappings, symbolsOf(t, mem, img.Mappings)), img.Arch, wasLive(t, m)}, done, nil
}

// call returns the system call that a thread is in, or "".
func (w *whereis) call(th *procmem.Thread) string { return snapshot.CallOf(w.arch, th, w.live) }

// wasLive reports whether the threads of a target run on while m looks at them, or did when a
// core was taken.
func wasLive(t *target.Target, m snapshot.Method) bool {
	if t.Core == nil {
		return m == snapshot.MethodLive
	}
	r := t.Core.Report()
	return r != nil && snapshot.Method(r.Method) == snapshot.MethodLive
}
