// A Go target that serves its own profiles: nine tenths of its CPU time in one function, memory that it keeps
// and memory that it drops, a goroutine that never goes on, and two that wait for the same lock.
//
// Arguments: `unserved` opens no port, `rates` has Go count locks and blocking, `profiled` records its own CPU,
// `hostile` answers for its profiles what no program should.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime"
	"runtime/debug"
	own "runtime/pprof"
	"slices"
	"sync"
	"time"
)

var (
	sink    uint64
	kept    [][]byte
	dropped []byte
)

//go:noinline
func guilty(n uint64) {
	x := n
	for i := uint64(0); i < n; i++ {
		x = x*6364136223846793005 + i // the guilty line
	}
	sink = x
}

//go:noinline
func innocent(n uint64) {
	x := n
	for i := uint64(0); i < n; i++ {
		x = x*6364136223846793005 + i
	}
	sink = x
}

//go:noinline
func hoard() {
	for i := 0; i < 64; i++ {
		kept = append(kept, make([]byte, 1<<20))
	}
}

//go:noinline
func churn() {
	dropped = make([]byte, 1<<16)
}

//go:noinline
func stuck(forever chan int) {
	<-forever
}

//go:noinline
func contend(lock *sync.Mutex) {
	for {
		lock.Lock()
		time.Sleep(2 * time.Millisecond)
		lock.Unlock()
	}
}

// The index as it should be, and then: bytes without end, bytes that drip, and garbage.
func hostile() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/heap", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/debug/pprof/goroutine", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	garbage := func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "\x1f\x8b\x08 no profile \xff\xff\xff")
	}
	mux.HandleFunc("/debug/pprof/mutex", garbage)
	mux.HandleFunc("/debug/pprof/profile", garbage)
	return mux
}

func main() {
	asked := func(word string) bool { return slices.Contains(os.Args, word) }
	hoard()
	// Go tells what was allocated once two collections have passed.
	debug.SetGCPercent(10)
	runtime.GC()
	runtime.GC()
	if asked("rates") {
		runtime.SetMutexProfileFraction(1)
		runtime.SetBlockProfileRate(1)
	}
	if asked("profiled") {
		own.StartCPUProfile(io.Discard)
	}
	go stuck(make(chan int))
	lock := new(sync.Mutex)
	go contend(lock)
	go contend(lock)
	if !asked("unserved") {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		var handler http.Handler
		if asked("hostile") {
			handler = hostile()
		}
		go http.Serve(listener, handler)
	}
	for {
		guilty(900000)
		innocent(100000)
		churn()
	}
}
