// A Go target with one guilty function: nine tenths of its CPU time.
package main

var sink uint64

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
func work() {
	guilty(900000)
	innocent(100000)
}

func main() {
	for {
		work()
	}
}
