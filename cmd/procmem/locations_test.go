package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/procmem/procmem/internal/testproc"
)

// locations feeds what commands print as a place back into read.
type locations struct {
	*testing.T
	target string
	known  map[string]bool
	places []string // not looked at yet
	starts []uint64 // the address that each is
}

// means notes that a place is at an address.
func (l *locations) means(place, address string) {
	l.Helper()
	if !l.known[place] {
		l.known[place] = true
		l.places = append(l.places, place)
		l.starts = append(l.starts, hexNumber(l, address))
	}
}

// check has all places read, and looks where each begins. Between two of them is a byte that
// nothing has.
func (l *locations) check() {
	l.Helper()
	const between = "0x1+1"
	args := []string{"read", l.target, "--json", "--"}
	for _, place := range l.places {
		args = append(args, place, between)
	}
	out, msg, _ := procmemCommand(l, args...)
	i, begun := 0, false
	for line := range strings.Lines(out) {
		var piece struct{ Start string }
		if err := json.Unmarshal([]byte(line), &piece); err != nil {
			l.Fatal(err)
		}
		switch start := hexNumber(l, piece.Start); {
		case start == 1:
			i, begun = i+1, false
		case !begun && start != l.starts[i]:
			l.Errorf("%s: read %q begins at %#x, want %#x", l.target, l.places[i], start, l.starts[i])
			fallthrough
		default:
			begun = true
		}
	}
	if i != len(l.places) || i == 0 {
		l.Errorf("%s: %d of %d places were read: %.300s", l.target, i, len(l.places), msg)
	}
}

// hexNumber returns an address, with its prefix or without.
func hexNumber(t testing.TB, s string) uint64 {
	t.Helper()
	v, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
	if err != nil {
		t.Errorf("no address: %v", err)
	}
	return v
}

// lines runs a command and returns the first lines of its output.
func (l *locations) lines(most int, args ...string) []string {
	l.Helper()
	out, msg, _ := procmemCommand(l, args...)
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if out == "" {
		l.Errorf("%v printed nothing: %s", args, msg)
	}
	return lines[:min(len(lines), most)]
}

var (
	rangeText = regexp.MustCompile(`(0x[0-9a-f]+)-(0x[0-9a-f]+)`)
	firstAddr = regexp.MustCompile(`[0-9a-f]{5,}`)
	columnGap = regexp.MustCompile(`  +`)
)

// Every place that a command prints is a RANGE: the address, the name, and the whole line.
func TestLocations(t *testing.T) {
	for _, v := range []testproc.Variant{testproc.Zoo, testproc.GoProg} {
		t.Run(v.Program, func(t *testing.T) { t.Parallel(); testLocations(t, v) })
	}
}

func testLocations(t *testing.T, v testproc.Variant) {
	var args []string
	if v == testproc.Zoo {
		args = []string{"--nospin", "--without", "uffd,secret"}
	}
	p := testproc.Start(t, v, args...)
	pid := strconv.Itoa(p.PID())
	prefix := filepath.Join(t.TempDir(), "core")
	if _, msg, status := procmemCommand(t, "core", "-o", prefix, pid); status != exitDone && status != exitMissing {
		t.Fatal(msg)
	}
	stack := "[stack]"
	for _, target := range []string{pid, prefix + "." + pid} {
		l := &locations{T: t, target: target, known: map[string]bool{}}
		l.maps()
		l.columns(60, 1, "search", target, "--pointer-to", stack)
		l.columns(60, 1, "search", target, "--hex", "00 00 00 00 ?? ?? 00 00", "--perm", "rw-p")
		l.columns(20, 1, "search", target, "--string", "GNU", "--context", "8")
		l.wholeLines(120, "strings", target)
		l.wholeLines(40, "strings", target, "--in", stack)
		l.wholeLines(20, "read", target, stack, "-f", "hex")
		l.wholeLines(20, "read", target, stack, "-f", "hex", "--color", "never")
		l.wholeLines(20, "read", target, stack, "-f", "u32")
		l.pointers("read", target, stack, "-f", "ptr")
		l.followed("read", target, stack, "--follow", "--json")
		l.threads()
		l.ranges("info", target)
		l.check()
	}
	if v == testproc.Zoo {
		p.Cmd(t, "touch anon 0 2")
	}
	l := &locations{T: t, target: pid, known: map[string]bool{}}
	l.ranges("diff", prefix+"."+pid, pid)
	l.columns(60, 3, "diff", prefix+"."+pid, pid)
	l.wholeLines(60, "diff", prefix+"."+pid, pid, "--hex")
	l.check()
}

// maps checks the names of mappings. One name may be that of several.
func (l *locations) maps() {
	lines := l.lines(1e6, "maps", l.target)
	at := strings.Index(lines[0], "MAPPING")
	lowest := map[string]string{}
	for _, line := range lines[1 : len(lines)-1] {
		start := rangeText.FindStringSubmatch(line)[1]
		name := string([]rune(line)[at:])
		if lowest[name] == "" {
			lowest[name] = start
		}
		l.means(name+"+0", lowest[name])
		m := rangeText.FindStringSubmatch(line)
		if hexNumber(l, m[2])-hexNumber(l, m[1]) <= 1<<16 { // what is larger takes long
			l.means(name, lowest[name])
			l.means(line, start)
		}
		if strings.HasPrefix(name, "[anon@") && lowest[name] != start {
			l.Errorf("%s is the name of two mappings", name)
		}
	}
}

// columns checks lines that begin with an address and have the place in another column.
func (l *locations) columns(most, place int, args ...string) {
	l.Helper()
	for _, line := range l.lines(most, args...) {
		cells := columnGap.Split(line, -1)
		if len(cells) <= place || !strings.HasPrefix(line, "0x") {
			continue
		}
		start, _, _ := strings.Cut(cells[0], "-")
		l.means(cells[0], start)
		l.means(line, start)
		name, _, _ := strings.Cut(cells[place], " <") // the symbol
		if strings.Contains(name, "+0x") {
			l.means(name, start)
		}
	}
}

// wholeLines checks lines that begin with an address.
func (l *locations) wholeLines(most int, args ...string) {
	l.Helper()
	for _, line := range l.lines(most, args...) {
		first := firstAddr.FindString(line)
		if first == "" || !strings.HasPrefix(strings.TrimPrefix(strings.TrimLeft(line, " "), "0x"), first) {
			continue // a header, or an asterisk
		}
		l.means(line, first)
	}
}

// mostPlaces is how many places of a kind are checked.
const mostPlaces = 40

// pointers checks the places that words point to.
func (l *locations) pointers(args ...string) {
	l.Helper()
	n := 0
	for _, line := range l.lines(1e6, args...) {
		if cells := columnGap.Split(line, -1); n < mostPlaces && len(cells) == 3 && strings.HasPrefix(cells[1], "0x") {
			name, _, _ := strings.Cut(cells[2], " <")
			l.means(name, cells[1])
			n++
		}
	}
	if n == 0 {
		l.Error("no word is a pointer")
	}
}

// followed checks the places of chains.
func (l *locations) followed(args ...string) {
	l.Helper()
	n := 0
	for _, line := range l.lines(1e6, args...) {
		var word struct {
			Chain []struct{ Address, Mapping string }
		}
		if err := json.Unmarshal([]byte(line), &word); err != nil {
			l.Fatal(err)
		}
		for _, c := range word.Chain {
			if n == mostPlaces {
				return
			}
			l.means(c.Mapping, c.Address)
			n++
		}
	}
	if n == 0 {
		l.Error("no word is a pointer")
	}
}

// threads checks where threads are.
func (l *locations) threads() {
	out, _, _ := procmemCommand(l, "threads", l.target, "--json")
	var list struct {
		Threads []struct{ PC, SP, At string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		l.Fatal(err)
	}
	table := strings.Join(l.lines(1e6, "threads", l.target), "\n")
	for _, th := range list.Threads {
		for _, place := range []string{th.PC, th.At} {
			l.means(place, th.PC)
		}
		l.means(th.SP, th.SP)
		if !strings.Contains(table, "  "+th.At) {
			l.Logf("%s is not in the table: the thread has gone on", th.At)
		}
	}
}

// ranges checks the ranges in a text.
func (l *locations) ranges(args ...string) {
	l.Helper()
	for _, line := range l.lines(200, args...) {
		for _, m := range rangeText.FindAllStringSubmatch(line, -1) {
			if hexNumber(l, m[2])-hexNumber(l, m[1]) <= 1<<16 {
				l.means(m[0], m[1])
				l.means(m[0]+": and what follows", m[1])
			}
		}
	}
}

// The heap is found in a program that has no mapping of that name.
func TestHeapWord(t *testing.T) {
	p := testproc.Start(t, testproc.GoProg)
	pid := strconv.Itoa(p.PID())
	addr, want := p.Needle(t, "heap")
	for _, in := range []string{"heap", "[heap]"} {
		out, msg, status := procmemCommand(t, "search", pid, "--hex", fmt.Sprintf("%x", want), "--in", in)
		if status != exitDone || !strings.HasPrefix(out, addr.String()+" ") {
			t.Errorf("--in %s: status %d, %q, %s", in, status, out, msg)
		}
	}
	around := fmt.Sprintf("%v-3+%d", addr, 3+len(want))
	if out, msg, status := procmemCommand(t, "read", pid, around); status != exitDone || !strings.HasSuffix(out, string(want)) || len(out) != 3+len(want) {
		t.Errorf("read %s: status %d, %q, %s", around, status, out, msg)
	}
}
