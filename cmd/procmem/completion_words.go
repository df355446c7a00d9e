package main

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/procmem/procmem/core"
	"github.com/procmem/procmem/internal/packed"
	"github.com/procmem/procmem/internal/regular"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/internal/units"
	"github.com/procmem/procmem/process"
	"github.com/procmem/procmem/symbols"
	"github.com/procmem/procmem/target"
)

// What shells offer for a word. A target chooses the names of its files and itself, and a shell
// may put what is offered onto a command line without quotes. So only plain names are offered.

type completer = func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective)

// argumentsOf holds what the arguments of each command may be.
var argumentsOf = map[string]completer{
	"maps": oneOf(targetWords), "threads": oneOf(targetWords), "stacks": oneOf(targetWords), "info": oneOf(targetWords),
	"strings": oneOf(targetWords), "search": oneOf(targetWords), "dump": oneOf(targetWords),
	"diff": completeDiff, "read": completeRead,
	"doctor": oneOf(processWords), "core": completePIDs,
	"verify": oneOf(coreWords), "pack": oneOf(coreWords), "unpack": oneOf(coreWords), "open": oneOf(coreWords),
}

const (
	noFiles = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	goesOn  = noFiles | cobra.ShellCompDirectiveNoSpace
)

// oneOf completes a single argument.
func oneOf(words func(word string) []string) completer {
	return func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, noFiles
		}
		return offer(words(word))
	}
}

func completeDiff(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, noFiles
	}
	return offer(targetWords(word))
}

func completePIDs(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	return offer(processWords(word))
}

func completeRead(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return offer(targetWords(word))
	}
	return offer(rangeWords(args[0], word))
}

// completeIn completes --in. The target may come later, and nothing is offered then.
func completeIn(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, noFiles
	}
	return offer(rangeWords(args[0], word))
}

// offer goes on without a space where all that is offered is the beginning of a word. Where nothing
// is, the shell offers files, whose names it may quote.
func offer(words []string) ([]string, cobra.ShellCompDirective) {
	if len(words) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	for _, w := range words {
		name, _, _ := strings.Cut(w, "\t")
		if !strings.HasSuffix(name, "/") && name != symbolWord {
			return words, noFiles
		}
	}
	return words, goesOn
}

// described returns a word with what a shell prints beside it.
func described(word, text string) string { return word + "\t" + term.Printable(text) }

// plainWord reports whether a word means nothing to a shell but itself. A bracket without a
// wildcard in it is harmless.
func plainWord(s string) bool {
	return s != "" && s[0] != '-' && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.,:+@/[]-") == ""
}

// targetWords are processes and cores.
func targetWords(word string) []string { return append(processWords(word), coreWords(word)...) }

// processWords are the pids that begin with word or, where that begins with a letter, the names.
func processWords(word string) []string {
	before, word := cutList(word)
	var names []string
	pids := map[string][]string{}
	var out []string
	pidsOf, _ := process.List()
	self, _ := process.Self()
	for _, pid := range pidsOf {
		name, ok := nameOf(pid)
		text := strconv.Itoa(pid)
		switch {
		case !ok || pid == self:
		case strings.HasPrefix(text, word):
			out = append(out, described(before+text, name))
		case strings.HasPrefix(name, word) && plainWord(name):
			if pids[name] == nil {
				names = append(names, name)
			}
			pids[name] = append(pids[name], text)
		}
	}
	for _, name := range names {
		out = append(out, described(before+name, strings.Join(pids[name], ", ")))
	}
	return out
}

// cutList cuts a word behind its last comma.
func cutList(word string) (before, last string) {
	i := strings.LastIndexByte(word, ',') + 1
	return word[:i], word[i:]
}

// nameOf returns the name of a process that has memory.
func nameOf(pid int) (string, bool) {
	p, err := process.Open(pid)
	if err != nil {
		return "", false
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil || st.Zombie() || st.KernelThread() {
		return "", false
	}
	return st.Name, true
}

// coreWords are the files that are cores, or may be compressed ones, and the folders, by the path
// that begins with word.
func coreWords(word string) []string {
	dir, base := filepath.Split(word)
	entries, _ := os.ReadDir(cmp.Or(dir, "."))
	var out []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case !strings.HasPrefix(name, base) || !plainWord(name) || base == "" && name[0] == '.':
		case e.IsDir():
			out = append(out, described(dir+name+"/", "folder"))
		case e.Type().IsRegular() && isCore(filepath.Join(dir, name)):
			out = append(out, described(dir+name, "core"))
		}
	}
	return out
}

// isCore reports whether a file says at its beginning that it is a core, or compressed.
func isCore(path string) bool {
	const typeAt = 16 // of e_type in a header of ELF
	f, _, err := regular.Open(unix.AT_FDCWD, path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, typeAt+2)
	if _, err := io.ReadFull(f, head); err != nil {
		return false
	}
	kind := binary.LittleEndian.Uint16(head[typeAt:])
	return packed.IsPacked(head) || bytes.HasPrefix(head, []byte(elf.ELFMAG)) && elf.Type(kind) == elf.ET_CORE
}

// rangeWords are the names of mappings of a target, or symbols.
func rangeWords(of, word string) []string {
	t, err := target.OpenWith(of, core.OpenOptions{})
	if err != nil {
		return nil
	}
	defer t.Close()
	mem, done, err := t.Memory()
	if err != nil {
		return nil
	}
	defer done()
	ms, err := mem.Mappings()
	if err != nil {
		return nil
	}
	if name, ok := strings.CutPrefix(word, symbolWord); ok {
		return symbolWords(symbolsOf(t, mem, ms), name)
	}
	var out []string
	locate := target.Locator(ms)
	seen := map[string]bool{}
	for i := range ms {
		name := locate(ms[i].Start)
		name = name[:strings.LastIndexByte(name, '+')]
		if !seen[name] && strings.HasPrefix(name, word) && plainWord(name) {
			seen[name] = true
			out = append(out, described(name, fmt.Sprintf("%v %s", ms[i].Perm, units.Size(ms[i].Size()))))
		}
	}
	if strings.HasPrefix(symbolWord, word) {
		out = append(out, described(symbolWord, "a symbol"))
	}
	return out
}

const symbolWord = "sym:"

func symbolWords(tab *symbols.Table, name string) []string {
	const most = 500
	var out []string
	for _, s := range tab.WithPrefix(name, most) {
		if plainWord(s) {
			out = append(out, symbolWord+s)
		}
	}
	return out
}
