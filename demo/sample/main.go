// Command sample is a process to look at: it has threads that wait in
// different places, and known bytes at an address that it prints.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

var secret = []byte("procmem was here: 42 is the answer")

//go:noinline
func waitForOrders(orders <-chan int) int { return <-orders }

//go:noinline
func worker(orders <-chan int) {
	runtime.LockOSThread() // a thread of its own
	waitForOrders(orders)
}

func main() {
	orders := make(chan int)
	for range 3 {
		go worker(orders)
	}
	go func() { // a thread in a system call
		r, _, err := os.Pipe()
		if err == nil {
			_, _ = io.Copy(io.Discard, r)
		}
	}()
	fmt.Printf("%p %d\n", &secret[0], len(secret))
	// Whoever started it ends it by closing its standard input; ten minutes
	// are enough in any case.
	time.AfterFunc(10*time.Minute, func() { os.Exit(1) })
	_, _ = io.Copy(io.Discard, os.Stdin)
}
