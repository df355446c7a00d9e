package symbols

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// demangled returns a name as it is in the source of C++, Rust or Go, without the types of
// parameters.
func demangled(name string) (out string) {
	if !strings.HasPrefix(name, "_Z") && !strings.HasPrefix(name, "_R") {
		return plainGo(name)
	}
	defer func() {
		if recover() != nil { // the parser is not ours, and names are anybody's
			out = name
		}
	}()
	const longest = 12 // as a power of two
	return demangle.Filter(name, demangle.NoParams, demangle.MaxLength(longest))
}

// plainGo returns a name as the runtime of Go prints it: without the arguments of types, which
// the compiler makes up, and the mark of functions in assembly.
func plainGo(name string) string {
	name = strings.TrimSuffix(name, ".abi0")
	i, j := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']')
	if i < 0 || j < i || !strings.Contains(name[i:j], "go.shape.") {
		return name
	}
	return name[:i] + "[...]" + name[j+1:]
}
