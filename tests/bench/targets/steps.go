// A Go target that does the same work in each step and says after each how far its clocks are.
// Prints `MONOTONIC_NS CPU_NS` a step (about 5 ms). The work is done below 12 callers; 4 goroutines wait beside
// it. It serves net/http/pprof at the port of its argument.
package main

import (
	"fmt"
	"net/http"
	_ "net/http/pprof"
	"os"
	"syscall"
	"unsafe"
)

var cells [65536]uint32
var sink uint32

// Arithmetic and memory in an order that the processor does not foresee.
//
//go:noinline
func blend(seed uint32) uint32 {
	for i := 0; i < 1000000; i++ {
		seed = seed*1664525 + 1013904223
		cells[(seed>>8)%65536] += seed ^ (seed >> 13)
	}
	return seed
}

//go:noinline
func page(depth, seed uint32) uint32 {
	var done uint32
	if depth > 0 {
		done = page(depth-1, seed+1)
	} else {
		done = blend(seed)
	}
	sink = done
	return done ^ depth
}

func clock(id uintptr) int64 {
	var t syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

func main() {
	go func() { panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil)) }()
	for i := 0; i < 4; i++ {
		go func() { select {} }()
	}
	for {
		page(12, sink)
		fmt.Fprintf(os.Stdout, "%d %d\n", clock(1), clock(2))
	}
}
