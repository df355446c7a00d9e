package elfcore

import (
	"fmt"
	"strings"

	"github.com/procmem/procmem"
)

// EncodeMaps returns the mappings as the text of /proc/PID/maps. It has what program headers
// and NT_FILE lack: names such as [heap], sharing, devices and inodes.
func EncodeMaps(ms []procmem.Mapping) []byte {
	b := make([]byte, 0, 100*len(ms)+1)
	for i := range ms {
		b = append(append(b, ms[i].String()...), '\n')
	}
	if len(b) == 0 {
		b = append(b, '\n') // BFD stumbles over empty notes
	}
	return b
}

// DecodeMaps reads what EncodeMaps wrote.
func DecodeMaps(text string) ([]procmem.Mapping, error) {
	var ms []procmem.Mapping
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			continue
		}
		m, err := procmem.ParseMapping([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("decode line %q: %w", line, err)
		}
		if k := len(ms); k > 0 && m.Start < ms[k-1].End {
			return nil, fmt.Errorf("decode line %q: not behind the line before", line)
		}
		ms = append(ms, m)
	}
	return ms, nil
}
