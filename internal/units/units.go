// Package units writes numbers for people.
package units

import "strconv"

// Size returns n bytes for a person to read: "512 B", "1.5 GiB". It rounds to the nearest
// tenth.
func Size(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	// Tenths are counted in integers, so that what rounds up to 1024.0 is seen and becomes 1.0
	// of the next unit.
	const units = "KMGTPE"
	for i := range len(units) {
		shift := 10 * (i + 1)
		whole, rest := n>>shift, n&(1<<shift-1)
		// rest < 2^60, so that ten times that fits.
		tenths := whole*10 + (rest*10+1<<(shift-1))>>shift
		if tenths < 10240 || i == len(units)-1 {
			return strconv.FormatUint(tenths/10, 10) + "." + strconv.FormatUint(tenths%10, 10) + " " + units[i:i+1] + "iB"
		}
	}
	panic("unreachable")
}

// Count returns a number with what is counted, such as "2 ranges".
func Count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
