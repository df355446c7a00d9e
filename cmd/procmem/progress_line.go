package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/procmem/procmem/internal/units"
)

// moment is what there is to show.
type moment struct {
	phase string
	done  func() int64 // bytes so far; nil where none move
	total int64        // about how many bytes there are; 0: unknown
	since time.Time    // when the counting began
}

// tellAfter is how long bytes must move before their speed means anything.
const tellAfter = 200 * time.Millisecond

// moved returns how many bytes have moved so far.
func (m moment) moved() int64 {
	if m.done == nil {
		return 0
	}
	return m.done()
}

// String returns the moment in words.
func (m moment) String() string {
	if m.done == nil {
		return m.phase
	}
	n := m.moved()
	text := m.phase + ", " + units.Size(uint64(n))
	if m.total > 0 {
		text += " of " + units.Size(uint64(m.total))
	}
	if time.Since(m.since) < tellAfter {
		return text
	}
	speed := float64(n) / time.Since(m.since).Seconds()
	text += ", " + units.Size(uint64(speed)) + "/s"
	if left := m.total - n; left > 0 && n > m.total/100 {
		text += ", " + timeLeft(left, speed)
	}
	return text
}

// line returns the moment in one line of at most width characters. What tells least goes first:
// the bar, the speed, the amounts. The time left stays as long as the phase does.
func (m moment) line(width int) string {
	n := m.moved()
	if m.total == 0 || n <= m.total/100 || time.Since(m.since) < tellAfter { // too little to predict the time left
		return first(width, m.phase)
	}
	n = min(n, m.total)
	speed := float64(n) / time.Since(m.since).Seconds()
	percent := fmt.Sprintf("%s %d%%", m.phase, n*100/m.total)
	amounts := fmt.Sprintf("%s of %s", units.Size(uint64(n)), units.Size(uint64(m.total)))
	pace := units.Size(uint64(speed)) + "/s"
	left := timeLeft(m.total-n, speed)
	return first(width,
		percent+" "+drawn(n, m.total)+" "+amounts+", "+pace+", "+left,
		percent+", "+amounts+", "+pace+", "+left,
		percent+", "+amounts+", "+left,
		percent+", "+left,
		m.phase+", "+left,
		left+", "+m.phase)
}

// first returns the first text that fits, or as much of the last as does.
func first(width int, texts ...string) string {
	for _, t := range texts {
		if len(t) <= width {
			return t
		}
	}
	return texts[len(texts)-1][:max(width, 0)]
}

// timeLeft returns how long so many bytes take at a speed in bytes a second.
func timeLeft(bytes int64, speed float64) string {
	return (time.Duration(float64(bytes)/speed) * time.Second).String() + " left"
}

// drawn is a bar.
func drawn(n, total int64) string {
	const width = 20
	done := int(n * width / total)
	return "[" + strings.Repeat("#", done) + strings.Repeat(".", width-done) + "]"
}
