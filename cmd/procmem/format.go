package main

import "time"

func state(b byte) string {
	if b == 0 {
		return ""
	}
	return string(rune(b))
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// duration prints milliseconds with about three digits.
func duration(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d >= 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
