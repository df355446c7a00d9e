package upload

// What S3 allows. Other servers allow as much, or more.
const (
	maxParts = 10_000
	maxPart  = 5 << 30 // bytes
)

const (
	// minPart is well above the 5 MiB that S3 wants, and small enough to have three of them in
	// memory.
	minPart = 8 << 20
	// plannedParts is what a prediction may use up: the rest is for when it was too low.
	plannedParts = 9_000
)

// layout says how long the parts of an upload are. Up to the predicted length they are equal.
// Beyond it they are doubled ten times on the way to the last part: without a prediction, after
// each thousand of them.
type layout struct {
	base    int64 // bytes of the first part
	planned int   // parts that the prediction needs
}

// newLayout returns the layout for a length of size bytes, 0 if unknown.
func newLayout(size int64) layout {
	const mib = 1 << 20
	l := layout{base: max(minPart, (size/plannedParts+mib)&^(mib-1))}
	l.planned = int((max(size, 0) + l.base - 1) / l.base)
	return l
}

// part returns the length of part n, counted from 1.
func (l layout) part(n int) int64 {
	size := l.base
	if beyond := n - 1 - l.planned; beyond > 0 {
		size <<= beyond / ((maxParts - l.planned) / 10)
	}
	return min(size, maxPart)
}

// fits reports whether the predicted length can be uploaded at all.
func (l layout) fits() bool { return l.base <= maxPart }
