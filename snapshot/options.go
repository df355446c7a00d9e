package snapshot

import (
	"time"

	"github.com/procmem/procmem"
)

// Options say how a moment is taken. The zero value takes it by MethodAuto, and keeps in memory
// what is copied while the process goes on.
type Options struct {
	// Method is the method to take. Empty means MethodAuto.
	Method Method
	// MaxPause bounds the expected pause. Zero means no bound; MethodAuto then strives for 20
	// ms.
	MaxPause time.Duration
	// Want returns the memory to be read, as ascending ranges. A nil Want wants all memory.
	// Take calls it before the pause, and again when the mappings have changed.
	Want func(img *procmem.Image, mem procmem.Memory) []procmem.Range
	// Prepare returns the store for memory that is copied early. A nil store makes
	// MethodPrecopy impossible. MethodLive ignores the store. Take calls Prepare once, before
	// anything is stopped, with the process as it is then. An error ends Take. The arguments
	// must not be used after Prepare has returned.
	//
	// A nil Prepare keeps that memory in memory, where enough is available.
	Prepare func(img *procmem.Image, mem procmem.Sparse) (Store, error)
	// Spill has wanted memory put into the store that would otherwise be read while the process
	// is held. It is for readers that may be slow.
	Spill bool
	// OnStep is called with each step before the step begins. It must return at once, because
	// the process may be held.
	OnStep func(Step)
}

// StepKind is a kind of step.
type StepKind uint8

// The steps of Take.
const (
	StepLook  StepKind = iota // at the process, which goes on
	StepRound                 // memory is copied while the process goes on
	StepPause                 // the process is held
)

// Step is one part of the work of Take.
type Step struct {
	Kind  StepKind
	Round int // the number of a StepRound, from 1
}

func (o *Options) step(kind StepKind, round int) {
	if o.OnStep != nil {
		o.OnStep(Step{kind, round})
	}
}

func (o *Options) want(img procmem.Image, mem procmem.Memory) []procmem.Range {
	if o.Want != nil {
		return o.Want(&img, mem)
	}
	var all []procmem.Range
	for i := range img.Mappings {
		all = append(all, img.Mappings[i].Range)
	}
	return all
}
