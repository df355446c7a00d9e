package symbols

import (
	"io"
	"sync"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/debuginfod"
	"github.com/procmem/procmem/internal/gopcln"
	"github.com/procmem/procmem/internal/lines"
	"github.com/procmem/procmem/internal/perfmap"
)

// Debug says where debug information is looked for, beside the mapped files themselves and the
// folders of this machine.
type Debug struct {
	// PID is the process whose own folders may hold debug files, and whose perf map
	// (/tmp/perf-PID.map) names code that it compiled while it ran. It is 0 for a core.
	PID int
	// Servers are the URLs of debuginfod servers, which are told the build ids of files
	// without debug information. None is asked by default.
	Servers []string
	// Cache is the folder for what they send. "" is DEBUGINFOD_CACHE_PATH, or procmem in the
	// cache folder of the user.
	Cache string
}

// Line is one function that holds an address, and where in its source that is.
type Line struct {
	// Function is the name as in the source, without the types of parameters. It is "" if
	// unknown.
	Function string
	// Symbol is the name as the linker or the compiler has it. It is "" if unknown.
	Symbol string
	// Offset is that of the address in Symbol, in bytes. It is 0 where Inlined.
	Offset uint64
	// File is the path that the compiler was told, below the folder in which it ran. It is ""
	// if unknown, and Line is 0 then.
	File string
	Line int
	// Inlined tells that the function has no frame of its own: it is a part of the next Line.
	Inlined bool
}

// Missing is a mapped file that was asked for, and has no debug information at hand.
type Missing struct {
	Path    string
	BuildID []byte // nil if it has none
	Err     error  // why
}

// Lines tells functions and lines of source, from debug information in DWARF, from the tables of
// Go programs, and from the perf map of the process. What is in files that anybody may have made
// is bounded in time and memory. It is safe for concurrent use, except for Close.
type Lines struct {
	table *Table
	debug Debug

	mu      sync.Mutex
	answers map[procmem.Addr][]Line
	missing []Missing
	hangs   bool // an answer never came: a file is on a server that is gone

	turn    chan struct{} // held by whom asks; guards what follows
	closed  bool
	cache   *lines.Cache
	modules []*module // the one that was used last is last
	servers *debuginfod.Client
	perf    perfMap
}

// module is the debug information of one mapped file.
type module struct {
	key   fileKey
	files []io.Closer
	units *lines.Program // nil if there is none
	alt   *lines.Program
	goTab *gopcln.Table
	more  *object // symbols that the file itself has not
}

// perfMap is what the process tells of code that it compiled while it ran.
type perfMap struct {
	reads int
	size  int64 // of the file when it was read
	names *perfmap.Map
}
