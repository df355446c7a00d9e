// Goprog is a Go program with a goroutine blocked in each way that there is.
package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

var (
	never      = make(chan int)
	mutex      sync.Mutex
	spins      atomic.Int64
	dataNeedle = [24]byte{1}
	heapNeedle []byte
)

func blockedOnChannel(name string) { <-never }

func blockedInSelect(name string) {
	select {
	case <-never:
	case <-make(chan string):
	}
}

func blockedInSyscall(name string) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		panic(err)
	}
	var b [1]byte
	syscall.Read(fds[0], b[:])
}

func blockedOnMutex(name string) { mutex.Lock() }

func asleep(name string) { time.Sleep(1000 * time.Hour) }

func running(name string) {
	for {
		spins.Add(1)
	}
}

func plant(name string, needle []byte) {
	rand.Read(needle)
	fmt.Printf("needle %s %p %s\n", name, unsafe.SliceData(needle), hex.EncodeToString(needle))
}

func main() {
	// The main goroutine stays on the main thread, which asks for this
	// signal when the parent dies.
	runtime.LockOSThread()
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	fmt.Println("pid", os.Getpid())
	heapNeedle = make([]byte, 24)
	plant("data", dataNeedle[:])
	plant("heap", heapNeedle)

	mutex.Lock()
	blocked := []func(string){blockedOnChannel, blockedInSelect, blockedInSyscall, blockedOnMutex, asleep}
	for _, f := range blocked {
		go f("procmem goroutine")
	}
	states := []string{"[chan receive", "[select", "[syscall", "[sync.Mutex.Lock", "[sleep"}
	for !allIn(states) {
		time.Sleep(time.Millisecond)
	}
	if len(os.Args) < 2 || os.Args[1] != "--nospin" {
		go running("procmem goroutine")
		for spins.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	fmt.Println("goroutines", runtime.NumGoroutine())
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "ping":
			fmt.Println("pong")
		case "spin":
			fmt.Println("spin", spins.Load())
		case "gc":
			runtime.GC()
			fmt.Println("ok")
		case "abort":
			syscall.Kill(os.Getpid(), syscall.SIGABRT)
		default:
			fmt.Println("error unknown command", in.Text())
		}
	}
}

func allIn(states []string) bool {
	buf := make([]byte, 64<<10)
	dump := string(buf[:runtime.Stack(buf, true)])
	for _, s := range states {
		if !strings.Contains(dump, s) {
			return false
		}
	}
	return true
}
