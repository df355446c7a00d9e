package dfa

// skipper finds where a match can begin, faster than the automaton would. It rests for a while
// where that is of no use.
type skipper struct {
	literal *required // at most before.maxLen behind the start
	window  *window

	calls, gain int // since it was last judged
	rest        int // offset up to which it rests
}

// It is judged after some calls, by the bytes that each must have saved on average; it rests
// for so many.
const (
	judgeCalls = 64
	judgeGain  = 12
	restBytes  = 16 << 10
)

// next returns an offset at or after i before which no match begins, or -1 if none does at all.
func (s *skipper) next(b []byte, i int) int {
	if i < s.rest {
		return i
	}
	if s.calls == judgeCalls {
		if s.gain < judgeCalls*judgeGain {
			s.rest = i + restBytes
		}
		s.calls, s.gain = 0, 0
	}
	j := i
	if s.literal != nil {
		if j = s.literal.find(b, i+s.literal.before.minLen); j >= 0 {
			j = max(i, j-s.literal.before.maxLen)
		}
	} else {
		j = s.window.find(b, i)
	}
	s.calls++
	s.gain += max(j, i) - i
	return j
}
