// A Go service that waits: each order asks a third party by HTTP, then computes. Its pool has nothing to do. It
// serves its profiles at a port of its own.
//
// Arguments: the port of the third party; `crowd N` has N more goroutines that wait for each other.
package main

import (
	"io"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
	"sync"
	"time"
)

var sink uint64

//go:noinline
func guilty(millis int) {
	x := uint64(1)
	// Rounds and not time: a goroutine that waits for a CPU has not computed.
	for i := 0; i < millis*700_000; i++ {
		x = x*6364136223846793005 + uint64(i)
	}
	sink = x
}

//go:noinline
func pay(port string) {
	answer, err := http.Get("http://127.0.0.1:" + port + "/")
	if err != nil {
		panic(err)
	}
	io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
}

//go:noinline
func order(port string) {
	pay(port)
	guilty(20)
}

func worker(jobs chan int) {
	for range jobs {
	}
}

// It holds the lock for most of the time, which the others want.
func contend(lock *sync.Mutex) {
	for {
		lock.Lock()
		time.Sleep(50 * time.Millisecond)
		lock.Unlock()
	}
}

func crowd(n int) {
	if n > 0 {
		next := make(chan int)
		go func() { <-next }()
		crowd(n - 1)
	}
}

func main() {
	jobs := make(chan int)
	for range 3 {
		go worker(jobs)
	}
	lock := new(sync.Mutex)
	go contend(lock)
	go contend(lock)
	if len(os.Args) > 3 {
		n, _ := strconv.Atoi(os.Args[3])
		for range n / 100 {
			go crowd(100)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, nil)
	for {
		order(os.Args[1])
	}
}
