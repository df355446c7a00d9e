package kernels

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ran is a machine that has run, with what its tests told.
type ran struct {
	machine
	release string // of the kernel
	page    string // its size, in bytes
	steps   []step
}

// told calls f with each attribute of a key, and the last part of the name of its test.
func (r *ran) told(key string, f func(test string, value map[string]string)) {
	for _, s := range r.steps {
		for _, o := range s.tests {
			for _, a := range o.attrs {
				var value map[string]string
				if a.key == key && json.Unmarshal([]byte(a.value), &value) == nil {
					f(o.name[strings.LastIndex(o.name, "/")+1:], value)
				}
			}
		}
	}
}

// outcome returns what became of a test: pass, fail, skip or "".
func (r *ran) outcome(name string) string {
	for _, s := range r.steps {
		for _, o := range s.tests {
			if o.name == name {
				return o.action
			}
		}
	}
	return ""
}

// page writes docs/kernels.md.
func page(t *testing.T, w io.Writer, all []*ran) {
	t.Helper()
	fmt.Fprintf(w, `# Kernels

Written by `+"`make kernels`"+` on %s. Each kernel is Debian's, in a virtual machine with two
processors, which %s emulates. Words in quotation marks are the program's own.

## Methods

A method works if its core of a process is whole, and of one moment. The method live does not
promise that. The witness is a process that writes, maps, unmaps and moves memory all the time. Its
column has how many cores of it were taken, none of which was torn; "-" is for none.

| kernel | machine | page | method | result | witness | why |
| --- | --- | --- | --- | --- | --- | --- |
`, time.Now().UTC().Format("2006-01-02"), emulator(t))
	for _, r := range all {
		r.methods(w)
	}
	fmt.Fprint(w, `
## What doctor says

Doctor was asked under limits of Yama, and of /proc. Then the core was taken by the same user.
It worked where doctor had said so, and nowhere else. A refusal stopped no thread.

| limit and user | doctor's sentence | kernels |
| --- | --- | --- |
`)
	doctor(w, all)
	fmt.Fprint(w, `
## Tests

The tests of kernels/guest run each command and check its exit status. Those of harm kill procmem
and its helper, and send signals to the target. A test is skipped where the kernel lacks what it
is for, or the machine has no program that it needs.

| kernel | machine | passed | skipped | failed |
| --- | --- | --- | --- | --- |
`)
	for _, r := range all {
		r.counts(w)
	}
}

func emulator(t *testing.T) string {
	t.Helper()
	version := output(t, ".", "qemu-system-x86_64", "--version")
	return "QEMU " + strings.Fields(version)[3]
}

func (r *ran) cells() string {
	size := map[string]string{"4096": "4 KiB", "16384": "16 KiB", "65536": "64 KiB"}[r.page]
	return fmt.Sprintf("%s | %s | %s", r.release, r.arch, size)
}

// methods writes a row for each method.
func (r *ran) methods(w io.Writer) {
	r.told("taken", func(method string, v map[string]string) {
		result := "works"
		switch {
		case r.outcome("TestMethods/"+method) != "pass":
			result = "**fails**"
		case v["took"] == "":
			result = "refused"
		case v["took"] != method:
			result = "takes " + v["took"]
		}
		witness := "-"
		switch r.outcome("TestWitness/" + method) {
		case "pass":
			witness = strconv.Itoa(*dumps)
		case "fail":
			witness = "**fails**"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", r.cells(), method, result, witness, quoted(v["why"]))
	})
}

var number = regexp.MustCompile(`\bprocess \d+`)

// quoted returns a sentence of the program as a cell.
func quoted(sentence string) string {
	if sentence == "" {
		return ""
	}
	sentence = strings.TrimPrefix(number.ReplaceAllString(sentence, "process PID"), "process PID: ")
	return `"` + strings.ReplaceAll(sentence, "|", `\|`) + `"`
}

// doctor writes a row for each condition, and several where kernels differ.
func doctor(w io.Writer, all []*ran) {
	type row struct{ condition, sentence string }
	var rows []row
	kernels := map[row][]string{}
	for _, r := range all {
		r.told("doctor", func(_ string, v map[string]string) {
			x := row{v["condition"], quoted(v["sentence"])}
			if kernels[x] == nil {
				rows = append(rows, x)
			}
			kernels[x] = append(kernels[x], r.name)
		})
	}
	slices.SortStableFunc(rows, func(a, b row) int { return strings.Compare(a.condition, b.condition) })
	for _, x := range rows {
		on := strings.Join(kernels[x], ", ")
		if len(kernels[x]) == len(all) {
			on = "all"
		}
		fmt.Fprintf(w, "| %s | %s | %s |\n", x.condition, x.sentence, on)
	}
}

// counts writes how many tests had which end. Those that have others below them do not count.
func (r *ran) counts(w io.Writer) {
	var failed []string
	count := map[string]int{}
	for _, s := range r.steps {
		for i, o := range s.tests {
			if i+1 < len(s.tests) && strings.HasPrefix(s.tests[i+1].name, o.name+"/") {
				continue
			}
			count[o.action]++
			if o.action == "fail" || o.action == "" {
				failed = append(failed, o.name)
			}
		}
		if s.status == "" {
			failed = append(failed, "the machine ended before "+s.command)
		}
	}
	fmt.Fprintf(w, "| %s | %s | %d | %d | %s |\n", r.release, r.arch, count["pass"], count["skip"], strings.Join(failed, ", "))
}
