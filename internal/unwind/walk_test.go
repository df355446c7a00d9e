package unwind

import (
	"context"
	"errors"
	"testing"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/cfi"
)

// check compares the addresses of frames, and the reason for the end.
func check(t *testing.T, frames []Frame, stop Stop, reason Reason, want ...procmem.Addr) {
	t.Helper()
	ok := len(frames) == len(want) && stop.Reason == reason
	for i := range min(len(frames), len(want)) {
		ok = ok && frames[i].PC == want[i]
	}
	if !ok {
		t.Errorf("%v, %v; want %v, %v", frames, stop, want, reason)
	}
}

const (
	sp64 = uint64(fakeStack)
	code = uint64(fakeCode)
	jit  = uint64(fakeJIT)
)

// Rules for call frames of amd64.
var (
	byRSP = []byte{0x0c, 7, 16, 0x80 | 16, 1} // CFA is rsp+16, the return address at CFA-8
	byRBX = []byte{0x0c, 3, 16, 0x80 | 16, 1} // CFA is rbx+16
)

func amd64(program ...byte) *fake {
	f := newFake(procmem.AMD64)
	f.cfi("zR", 16, program...)
	f.regs["rip"], f.regs["rsp"] = code+0x10, sp64
	return f
}

func TestCFI(t *testing.T) {
	f := amd64(byRSP...)
	f.words(fakeStack+8, code+0x20, 0, code+0x30, 0, 0)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, End, fakeCode+0x10, fakeCode+0x20, fakeCode+0x30)
	if !frames[0].Exact || frames[1].Exact || frames[1].How != ByCFI || frames[1].SP != fakeStack+16 || frames[1].CFA != fakeStack+32 {
		t.Errorf("%+v", frames)
	}
}

// A function may end with a call: the return address is that of the next one.
func TestReturnBehindTheFunction(t *testing.T) {
	f := amd64(byRSP...)
	f.words(fakeStack+8, code+0x400, 0, code+0x20, 0, 0)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, End, fakeCode+0x10, fakeCode+0x400, fakeCode+0x20)
}

func TestCyclicCFA(t *testing.T) {
	f := amd64(byRBX...)
	f.regs["rbx"] = sp64
	f.words(fakeStack+8, code+0x20)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, Loop, fakeCode+0x10, fakeCode+0x20)
}

// A signal frame may lead to another stack, in front of it or behind, but only once to each place.
func TestCyclicSignal(t *testing.T) {
	f := newFake(procmem.AMD64)
	f.cfi("zRS", 16, append(byRBX, 0x80|7, 2)...) // rsp is at CFA-16
	f.regs["rip"], f.regs["rsp"], f.regs["rbx"] = code+0x10, sp64+0x1000, sp64
	f.words(fakeStack, sp64+0x100, code+0x20)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, Loop, fakeCode+0x10, fakeCode+0x20)
	if !frames[0].Signal || !frames[1].Exact || frames[1].How != BySignal {
		t.Errorf("%+v", frames)
	}
}

// The stack ends in a page that is not mapped.
func TestStackEnds(t *testing.T) {
	f := amd64(byRSP...)
	f.regs["rsp"] = uint64(stackEnd) - 16
	f.words(stackEnd-8, code+0x20)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, Unreadable, fakeCode+0x10, fakeCode+0x20)
	if fault, ok := errors.AsType[*procmem.FaultError](stop.Err); !ok || !errors.Is(fault, procmem.ErrNotMapped) {
		t.Errorf("the reason is %v", stop.Err)
	}
}

func TestNotCode(t *testing.T) {
	f := amd64(byRSP...)
	f.words(fakeStack+8, sp64)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, NotCode, fakeCode+0x10)
}

// A jump to nowhere: the frame of the caller is on top of the stack.
func TestCallOfNothing(t *testing.T) {
	f := amd64(byRSP...)
	f.regs["rip"] = 0
	f.words(fakeStack, code+0x20, 0, code+0x30)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, End, 0, fakeCode+0x20, fakeCode+0x30)
}

func TestLimits(t *testing.T) {
	f := amd64(0x0c, 7, 8, 0x80|16, 1) // CFA is rsp+8
	for a := fakeStack; a < stackEnd; a += 8 {
		f.words(a, code+0x20)
	}
	frames, stop := f.walk(t, Options{})
	if len(frames) != 100 || stop.Reason != Limit {
		t.Errorf("%d frames, %v", len(frames), stop)
	}
	frames, stop = f.walk(t, Options{Work: 10})
	if len(frames) != 1 || stop.Reason != Limit || !errors.Is(stop.Err, cfi.ErrBudget) {
		t.Errorf("%d frames, %v", len(frames), stop)
	}
}

func TestCanceled(t *testing.T) {
	f := amd64(byRSP...)
	f.words(fakeStack+8, code+0x20, 0, code+0x30)
	u, err := New(f, &f.img, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n := 0
	if stop := u.Walk(ctx, f.thread(), 100, func(Frame) bool { n++; return true }); stop.Reason != Canceled || n != 1 {
		t.Errorf("%d frames, %v", n, stop)
	}
}

// A table that makes no sense is no end where there are frame pointers.
func TestBadCFI(t *testing.T) {
	f := amd64(0x3f)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, BadCFI, fakeCode+0x10)
	f.regs["rbp"] = sp64 + 0x10
	f.words(fakeStack+0x10, 0, jit+0x10)
	frames, stop = f.walk(t, Options{})
	check(t, frames, stop, End, fakeCode+0x10, fakeJIT+0x10)
}

// Frame pointers lead through code without call frame information, and not out of the stack.
func TestFramePointers(t *testing.T) {
	f := amd64(byRSP...)
	f.regs["rip"], f.regs["rbp"] = jit+0x10, sp64+0x20
	f.words(fakeStack+0x20, sp64+0x40, code+0x20) // then code by CFI, which keeps rbp
	f.words(fakeStack+0x38, jit+0x20)
	f.words(fakeStack+0x40, sp64+0x10, jit+0x30) // rbp goes down
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, NoCFI, fakeJIT+0x10, fakeCode+0x20, fakeJIT+0x20, fakeJIT+0x30)
	for _, rbp := range []uint64{1, sp64 - 8, sp64 + 4, uint64(stackEnd), code, 1 << 63} {
		f.regs["rbp"] = rbp
		frames, stop := f.walk(t, Options{})
		check(t, frames, stop, NoCFI, fakeJIT+0x10)
	}
}

// At the first instructions of a function, and at its last, the frame pointer is the caller's.
func TestInstructions(t *testing.T) {
	for _, c := range []struct {
		name  string
		text  string
		stack []uint64
	}{
		{"push", "\x55\x48\x89\xe5", []uint64{code + 0x20}},
		{"mov", "\x48\x89\xe5", []uint64{sp64 + 0x100, code + 0x20}},
		{"ret", "\xc3", []uint64{code + 0x20}},
		{"plt", "\xff\x25", []uint64{code + 0x20}},
	} {
		f := amd64(byRSP...)
		f.regs["rip"] = jit
		f.put(fakeJIT, []byte(c.text)...)
		f.words(fakeStack, c.stack...)
		frames, stop := f.walk(t, Options{})
		t.Log(c.name)
		check(t, frames, stop, End, fakeJIT, fakeCode+0x20)
	}
}

// A handler returns to code without call frame information, which is known by its
// instructions. The signal came at the first instruction of a function.
func TestSignalFrames(t *testing.T) {
	const restore = jit + 0x100
	t.Run("amd64", func(t *testing.T) {
		for _, text := range []string{"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05", "\xb8\x0f\x00\x00\x00\x0f\x05"} {
			f := amd64(byRSP...)
			f.put(fakeJIT+0x100, []byte(text)...)
			f.words(fakeStack+8, restore)
			f.words(fakeStack+16+40+120, sp64+0x800, code) // rsp and rip
			f.words(fakeStack+0x808, code+0x30)
			frames, stop := f.walk(t, Options{})
			check(t, frames, stop, End, fakeCode+0x10, fakeJIT+0x100, fakeCode, fakeCode+0x30)
			if !frames[1].Signal || !frames[2].Exact || frames[3].Exact {
				t.Errorf("%+v", frames)
			}
		}
	})
	t.Run("386", func(t *testing.T) {
		for _, rt := range []bool{false, true} {
			f := newFake(procmem.I386)
			f.cfi("zR", 8, 0x0c, 4, 8, 0x80|8, 1) // CFA is esp+8, the return address at esp
			f.regs["eip"], f.regs["esp"] = code+0x10, sp64
			f.words(fakeStack, restore)
			context := fakeStack + 8 + 4
			f.put(fakeJIT+0x100, []byte("\x58\xb8\x77\x00\x00\x00\xcd\x80")...)
			if rt {
				f.put(fakeJIT+0x100, []byte("\xb8\xad\x00\x00\x00\xcd\x80")...)
				f.words(fakeStack+16, sp64+0x100)
				context = fakeStack + 0x100 + 20
			}
			f.words(context+28, sp64+0x800)
			f.words(context+56, code)
			f.words(fakeStack+0x800, code+0x30, 0, 0)
			frames, stop := f.walk(t, Options{})
			check(t, frames, stop, End, fakeCode+0x10, fakeJIT+0x100, fakeCode, fakeCode+0x30)
		}
	})
	t.Run("arm64", func(t *testing.T) {
		f := arm64(0x0c, 31, 16, 0x80|30, 1)
		f.put(fakeJIT+0x100, []byte("\x68\x11\x80\xd2\x01\x00\x00\xd4")...)
		f.words(fakeStack+8, restore)
		f.words(fakeStack+16+312+8*31, sp64+0x800, code) // sp and pc
		f.words(fakeStack+0x808, code+0x30)
		frames, stop := f.walk(t, Options{})
		check(t, frames, stop, End, fakeCode+0x10, fakeJIT+0x100, fakeCode, fakeCode+0x30)
	})
}

func arm64(program ...byte) *fake {
	f := newFake(procmem.ARM64)
	f.cfi("zRB", 30, program...)
	f.regs["pc"], f.regs["sp"] = code+0x10, sp64
	return f
}

// A function that calls nobody has its return address in the link register. Signatures are no
// part of an address.
func TestLeafARM64(t *testing.T) {
	const signature = 0x00ab << 48
	f := arm64(0x0c, 31, 0, 0x2d) // CFA is sp; return addresses are signed
	f.regs["x30"] = signature | jit
	f.regs["x29"] = sp64 + 0x20
	f.words(fakeStack+0x20, 0, signature|code+0x20) // which has saved no link register
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, NoCFI, fakeCode+0x10, fakeJIT, fakeCode+0x20)
}

// Frame pointers of arm64 do not tell the stack pointer. The next function by rules finds its
// frame by where it has saved the frame pointer.
func TestRoughARM64(t *testing.T) {
	f := arm64(0x0c, 31, 48, 0x80|29, 6, 0x80|30, 5) // CFA is sp+48, x29 at CFA-48, x30 at CFA-40
	f.regs["pc"], f.regs["x29"] = jit+0x10, sp64+0x20
	f.words(fakeStack+0x20, sp64+0x80, code+0x20) // sp is sp64+0x80 there, and not 0x30
	f.words(fakeStack+0x80, 0, code+0x30)
	f.words(fakeStack+0xb0, 0, 0)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, End, fakeJIT+0x10, fakeCode+0x20, fakeCode+0x30)
}

// A core may not say which files were mapped. Headers in memory tell.
func TestUnnamedFile(t *testing.T) {
	f := amd64(byRSP...)
	f.img.Mappings[0].Path, f.img.Mappings[0].Inode = "", 0
	f.words(fakeStack+8, code+0x20, 0, 0)
	frames, stop := f.walk(t, Options{})
	check(t, frames, stop, End, fakeCode+0x10, fakeCode+0x20)
}
