package main

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/term"
	"github.com/procmem/procmem/snapshot"
	"github.com/procmem/procmem/target"
)

func newThreads(g *globals) *cobra.Command {
	method := threadsMethodFlag(snapshot.MethodStop)
	var registers bool
	cmd := g.addJSON(&cobra.Command{
		Use:   "threads TARGET",
		Short: "List the threads: states, where they are, registers",
		Long: `List the threads of a process or a core: state, the system call that each is in,
the function of the kernel where it waits (of a process), program counter and
stack pointer, the place and the function. procmem stacks tells who called it.

A process is stopped to read its registers, for about a millisecond. With
--method live it is not: then only blocked threads tell where they are, and of
their registers what /proc/PID/task/TID/syscall holds: those of the system call.`,
		Example: "  procmem threads 1234\n  procmem threads 1234 --registers\n  procmem threads core.1234",
		Args:    oneList,
		RunE: func(cmd *cobra.Command, args []string) error {
			list, err := target.ParseList(args[0])
			if err != nil {
				return err
			}
			if list.All && snapshot.Method(method) != snapshot.MethodLive {
				return usagef("all processes are not stopped for this: use --method live, or name those that are meant")
			}
			heads := headings{on: list.Several() && !g.json}
			return eachTarget(list, usual, openTarget, func(t *target.Target) error {
				img, pause, err := threadsOf(cmd, t, snapshot.Method(method))
				if err != nil {
					return onTarget(t, err)
				}
				known := registersOf(t, snapshot.Method(method))
				where, done, err := whereabouts(t, img, snapshot.Method(method))
				if err != nil {
					return err
				}
				defer done()
				if g.json {
					return orCutOff(printJSON(threadsJSON(t, img, pause, where, known)), t)
				}
				if !registers {
					known = nil
				}
				heads.next(whoseOf(t))
				return orCutOff(stdoutError(threadsTable(img, g, where, known)), t)
			})
		},
	})
	cmd.Flags().Var(&method, "method", "whether the process is stopped to read its registers")
	complete(cmd, "method", "stop", "live")
	cmd.Flags().BoolVarP(&registers, "registers", "r", false, "print all general purpose registers")
	return cmd
}

// threadsMethodFlag is the value of --method. It has fewer methods, because the others are for
// memory.
type threadsMethodFlag snapshot.Method

func (m *threadsMethodFlag) String() string { return string(*m) }
func (m *threadsMethodFlag) Type() string   { return "stop|live" }

func (m *threadsMethodFlag) Set(s string) error {
	switch v := snapshot.Method(s); v {
	case snapshot.MethodStop, snapshot.MethodLive:
		*m = threadsMethodFlag(v)
		return nil
	}
	return errors.New("want stop or live")
}

// registersOf returns a function that returns the known registers of a thread.
func registersOf(t *target.Target, m snapshot.Method) func(procmem.Arch, *procmem.Thread) []procmem.Register {
	if wasLive(t, m) {
		return snapshot.LiveRegisters
	}
	return func(a procmem.Arch, th *procmem.Thread) []procmem.Register {
		return a.Registers(th.Regset(procmem.NTPRStatus))
	}
}

// placeOf is Arch.PC for cores, too, which hold zeros where nothing is known.
func placeOf(a procmem.Arch, th *procmem.Thread) (pc, sp procmem.Addr, ok bool) {
	pc, sp, ok = a.PC(th)
	return pc, sp, ok && (pc != 0 || sp != 0)
}

func threadsOf(cmd *cobra.Command, t *target.Target, m snapshot.Method) (*procmem.Image, time.Duration, error) {
	if t.Core != nil {
		return t.Core.Image(), 0, nil
	}
	if m == snapshot.MethodStop {
		return snapshot.Threads(cmd.Context(), t.Process)
	}
	s, err := snapshot.Take(cmd.Context(), t.Process, snapshot.Options{Method: snapshot.MethodLive})
	if err != nil {
		return nil, 0, err
	}
	return s.Image(), 0, s.Close()
}

type threadJSON struct {
	TID       int               `json:"tid"`
	Name      string            `json:"name"`
	State     string            `json:"state"`
	PC        *procmem.Addr     `json:"pc"`
	SP        *procmem.Addr     `json:"sp"`
	At        string            `json:"at"`
	Symbol    string            `json:"symbol"`
	Call      string            `json:"call"`
	Wait      string            `json:"wait"`
	Signal    int               `json:"signal"`
	Pending   procmem.Addr      `json:"pending"`
	Blocked   procmem.Addr      `json:"blocked"`
	UserMS    int64             `json:"user_ms"`
	SystemMS  int64             `json:"system_ms"`
	Registers map[string]string `json:"registers"`
	Error     string            `json:"error,omitempty"`
}

func threadsJSON(t *target.Target, img *procmem.Image, pause time.Duration, where *whereis, known func(procmem.Arch, *procmem.Thread) []procmem.Register) any {
	out := struct {
		Target string `json:"target"`
		identity
		Arch    string       `json:"arch"`
		PauseMS float64      `json:"pause_ms"`
		Threads []threadJSON `json:"threads"`
	}{t.Word, whoseOf(t).identity, img.Arch.String(), milliseconds(pause), make([]threadJSON, 0, len(img.Threads))}
	for i := range img.Threads {
		th := &img.Threads[i]
		j := threadJSON{TID: th.TID, Name: th.Name, State: state(th.State), Signal: th.Signal,
			Pending: procmem.Addr(th.Pending), Blocked: procmem.Addr(th.Blocked),
			UserMS: th.UserTime.Milliseconds(), SystemMS: th.SystemTime.Milliseconds(), Registers: map[string]string{}}
		if pc, sp, ok := placeOf(img.Arch, th); ok {
			j.PC, j.SP, j.At, j.Symbol = &pc, &sp, where.locate(pc), where.symbols.Name(pc)
		}
		j.Call, j.Wait = where.call(th), th.Wait
		for _, r := range known(img.Arch, th) {
			j.Registers[r.Name] = procmem.Addr(r.Value).String()
		}
		if th.Err != nil {
			j.Error = th.Err.Error()
		}
		out.Threads = append(out.Threads, j)
	}
	return out
}

// threadsTable prints the registers that known returns, unless known is nil.
func threadsTable(img *procmem.Image, g *globals, where *whereis, known func(procmem.Arch, *procmem.Thread) []procmem.Register) error {
	color := g.color.Enabled(os.Stdout)
	cols := []term.Column{{Title: "TID", Right: true}, {Title: "NAME"}, {Title: "STATE"}, {Title: "CALL"}, {Title: "WAIT", Spare: 1},
		{Title: "PC", Right: true, Spare: 2}, {Title: "SP", Right: true, Spare: 3}, {Title: "AT"}}
	newTable := func() *term.Table {
		tab := term.NewTable(os.Stdout, color, cols...)
		tab.Fit(columnsOf(os.Stdout), leastName)
		return tab
	}
	tab := newTable()
	for i := range img.Threads {
		th := &img.Threads[i]
		row := []string{strconv.Itoa(th.TID), th.Name, state(th.State), where.call(th), th.Wait, "", "", ""}
		if pc, sp, ok := placeOf(img.Arch, th); ok {
			row[5], row[6], row[7] = pc.String(), sp.String(), where.name(pc)
		}
		if th.Err != nil {
			row[7] = strings.TrimLeft(row[7]+" ("+th.Err.Error()+")", " ")
		}
		if known != nil && i > 0 {
			term.Fprintf(os.Stdout, "\n")
			tab = newTable()
		}
		if err := tab.Row(row...); err != nil {
			return err
		}
		if known != nil {
			if err := tab.Close(); err != nil {
				return err
			}
			if err := registerLines(known(img.Arch, th)); err != nil {
				return err
			}
		}
	}
	if known != nil {
		return nil
	}
	return tab.Close()
}

func registerLines(regs []procmem.Register) error {
	const width = len("       r15 0x7f0000000000      ")
	perLine := 4
	if columns := columnsOf(os.Stdout); columns != 0 {
		perLine = min(max(columns/width, 1), perLine)
	}
	for i, r := range regs {
		end := "  "
		if i%perLine == perLine-1 || i == len(regs)-1 {
			end = "\n"
		}
		if _, err := term.Fprintf(os.Stdout, "  %8s %-18s"+end, r.Name, procmem.Addr(r.Value)); err != nil {
			return err
		}
	}
	return nil
}
