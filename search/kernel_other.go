//go:build !amd64

package search

const hasVectors = false

func pairVectors([]byte, pair) int             { panic("not on this machine") }
func rangeVectors([]byte, int, valueRange) int { panic("not on this machine") }
func printableVectors([]uint64, []byte, byte)  { panic("not on this machine") }
