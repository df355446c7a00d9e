package access

import (
	"os"
	"path/filepath"
)

// ownName is what texts call the program that asks: its name, as its user has called it.
var ownName = nameOf(os.Args)

func nameOf(args []string) string {
	if len(args) == 0 || args[0] == "" {
		return "this program"
	}
	return filepath.Base(args[0])
}
