package packed

// What the tests outside of the package need: those of cores, since core
// imports packed.
const (
	FrameSize = frameSize
	MaxPieces = maxPieces
	MaxGap    = maxGap
)
