package process

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/mappedfile"
	"github.com/procmem/procmem/internal/privilege"
	"github.com/procmem/procmem/internal/procfs"
)

// Mappings reads /proc/PID/maps. It returns the mappings as they are now, without Flags and
// Usage, ascending. It needs the rights of a debugger. A caller that reads memory, too, takes
// View.Mappings instead: these are the ones that the View reads by.
func (p *Process) Mappings() (ms []procmem.Mapping, err error) {
	p.patiently(func() { ms, err = parseMem(p, "maps", procfs.ParseMaps) })
	p.trueNames(ms)
	return ms, err
}

// mapsPatience is how long reading the mappings may take before OnWait's function is called.
const mapsPatience = 3 * time.Second

// patiently runs f, which reads the mappings. A thread that waits in the kernel with their lock
// held keeps all readers waiting.
func (p *Process) patiently(f func()) {
	timer := time.AfterFunc(mapsPatience, func() {
		p.tellWait("the mappings, whose lock a thread of the process may hold")
	})
	defer timer.Stop()
	f()
}

// Smaps reads /proc/PID/smaps. It returns the mappings with Flags and Usage, ascending. It
// needs the rights of a debugger. The kernel walks all page tables of the target for it: some
// 10 ms for each GiB in 4 KiB pages.
func (p *Process) Smaps() (ms []procmem.Mapping, err error) {
	p.patiently(func() {
		ms, err = parseMem(p, "smaps", func(r io.Reader) ([]procmem.Mapping, error) {
			ahead, stop := readAhead(r)
			defer stop()
			return procfs.ParseSmaps(ahead)
		})
	})
	p.trueNames(ms)
	return ms, err
}

// trueNames corrects paths that /proc/PID/maps leaves in doubt. It writes a newline as "\012",
// and writes these four characters as they are. The links of map_files have paths as they are.
// If those cannot be read, "\012" is taken for a newline.
func (p *Process) trueNames(ms []procmem.Mapping) {
	_, dir := p.bearer()
	for i := range ms {
		m := &ms[i]
		if !strings.HasPrefix(m.Path, "/") || !strings.ContainsRune(m.Path, '\n') && !strings.Contains(m.Path, `\012`) {
			continue
		}
		name, err := privilege.ReadLink(dir, fmt.Sprintf("map_files/%x-%x", uint64(m.Start), uint64(m.End)))
		// The link must be of the file that maps has shown, and not of one that has been mapped
		// there since.
		if err == nil && strings.HasSuffix(m.String(), " "+strings.ReplaceAll(name, "\n", `\012`)) {
			m.Path = name
		}
	}
}

// lookAtMounts reads the mounts that the process sees.
func (p *Process) lookAtMounts() mappedfile.Mounts {
	var text io.Reader = strings.NewReader("")
	if f, err := p.Open("mountinfo"); err == nil {
		defer f.Close()
		text = f
	}
	ms := mappedfile.ParseMounts(text)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = &ms
	return ms
}

// knownMounts returns the mounts of the last look at the process.
func (p *Process) knownMounts() mappedfile.Mounts {
	p.mu.Lock()
	known := p.known
	p.mu.Unlock()
	if known != nil {
		return *known
	}
	return p.lookAtMounts()
}
