package main

import (
	"cmp"
	"errors"
	"os"

	"github.com/google/pprof/profile"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/stacks"
)

// writePprof writes a profile, which go tool pprof reads.
func writePprof(name string, s *stackSum) (err error) {
	p := newProfile(s)
	if err := p.CheckValid(); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return p.Write(f)
}

// profiled makes a profile. Functions, places and mappings are in it once.
type profiled struct {
	*profile.Profile
	mappings  map[string]*profile.Mapping
	functions map[[2]string]*profile.Function
	locations map[placeKey]*profile.Location
	maps      []procmem.Mapping
}

func newProfile(s *stackSum) *profile.Profile {
	p := &profiled{
		Profile: &profile.Profile{
			SampleType:        []*profile.ValueType{{Type: "samples", Unit: "count"}},
			DefaultSampleType: "samples",
			Comments:          []string{"stacks of threads, those that wait included, by procmem " + version},
		},
		mappings: map[string]*profile.Mapping{}, functions: map[[2]string]*profile.Function{},
		locations: map[placeKey]*profile.Location{}, maps: s.img.Mappings,
	}
	if !s.first.IsZero() {
		p.TimeNanos = s.first.UnixNano()
	}
	period := s.o.every.Nanoseconds()
	if period > 0 {
		p.SampleType = append(p.SampleType, &profile.ValueType{Type: "wall", Unit: "nanoseconds"})
		p.PeriodType, p.Period, p.DefaultSampleType = p.SampleType[1], period, "wall"
		p.DurationNanos = s.last.Sub(s.first).Nanoseconds() + period
	}
	for _, g := range s.groups {
		p.add(g, period)
	}
	return p.Profile
}

// add adds the samples of a group, by the names of its threads.
func (p *profiled) add(g *stackGroup, period int64) {
	var at []*profile.Location
	for i := range g.frames {
		at = append(at, p.location(&g.frames[i]))
	}
	byName := map[string]*profile.Sample{}
	for _, t := range g.threads {
		name := cmp.Or(t.name, "?")
		x := byName[name]
		if x == nil {
			x = &profile.Sample{Location: at, Value: make([]int64, len(p.SampleType)), Label: map[string][]string{"thread": {name}}}
			byName[name] = x
			p.Sample = append(p.Sample, x)
		}
		x.Value[0] += int64(t.samples)
		if period > 0 {
			x.Value[1] += int64(t.samples) * period
		}
	}
}

func (p *profiled) location(f *shownFrame) *profile.Location {
	key := placeKey{f.PC, f.Lookup()}
	if l := p.locations[key]; l != nil && !f.runtime {
		return l
	}
	l := &profile.Location{ID: uint64(len(p.Location)) + 1}
	if !f.runtime {
		l.Address, l.Mapping = uint64(f.PC), p.mapping(f.PC)
		p.locations[key] = l
	}
	for _, at := range f.places {
		l.Line = append(l.Line, profile.Line{Function: p.function(f, at), Line: int64(at.Line)})
	}
	p.Location = append(p.Location, l)
	return l
}

func (p *profiled) function(f *shownFrame, at stacks.Place) *profile.Function {
	name := functionName(f, at)
	key := [2]string{name, at.File}
	fn := p.functions[key]
	if fn == nil {
		fn = &profile.Function{ID: uint64(len(p.Function)) + 1, Name: name, SystemName: name, Filename: at.File}
		p.functions[key] = fn
		p.Function = append(p.Function, fn)
	}
	return fn
}

// mapping returns that of an address. Its names are complete: nobody has to look for them.
func (p *profiled) mapping(a procmem.Addr) *profile.Mapping {
	i := procmem.FindMapping(p.maps, a)
	if i == len(p.maps) || !p.maps[i].Contains(a) {
		return nil
	}
	m := &p.maps[i]
	key := m.Range.String()
	x := p.mappings[key]
	if x == nil {
		x = &profile.Mapping{ID: uint64(len(p.Mapping)) + 1, Start: uint64(m.Start), Limit: uint64(m.End), Offset: m.Offset, File: m.Path,
			HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true}
		p.mappings[key] = x
		p.Mapping = append(p.Mapping, x)
	}
	return x
}
