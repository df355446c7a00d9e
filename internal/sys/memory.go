package sys

import (
	"fmt"
	"os"
	"strings"
)

// AvailableMemory returns how much memory the machine can still give, in bytes (MemAvailable in
// proc(5)).
func AvailableMemory() (free uint64, known bool) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		var kib uint64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
			return kib << 10, true
		}
	}
	return 0, false
}
