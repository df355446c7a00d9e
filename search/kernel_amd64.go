package search

import "golang.org/x/sys/cpu"

// hasVectors: kernel_amd64.s may be used. Tests compare it with what is used without.
var hasVectors = cpu.X86.HasAVX2

//go:noescape
func pairAVX2(b []byte, gap int, v1, m1, v2, m2 byte) int

//go:noescape
func range8AVX2(b []byte, first, more uint64) int

//go:noescape
func range16AVX2(b []byte, first, more uint64) int

//go:noescape
func range32AVX2(b []byte, first, more uint64) int

//go:noescape
func range64AVX2(b []byte, first, more uint64) int

func pairVectors(b []byte, p pair) int { return pairAVX2(b, p.gap, p.v1, p.m1, p.v2, p.m2) }

func rangeVectors(b []byte, size int, s valueRange) int {
	switch size {
	case 1:
		return range8AVX2(b, s.first, s.more)
	case 2:
		return range16AVX2(b, s.first, s.more)
	case 4:
		return range32AVX2(b, s.first, s.more)
	}
	return range64AVX2(b, s.first, s.more)
}

//go:noescape
func printableAVX2(bits []uint64, b []byte, high byte)

func printableVectors(bits []uint64, b []byte, high byte) { printableAVX2(bits, b, high) }
