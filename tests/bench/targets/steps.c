// A native target that does the same work in each step and says after each how far its clocks are.
// Prints `MONOTONIC_NS CPU_NS` a step (about 5 ms). The work is done below 12 callers; 4 threads wait beside it.
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define CELLS 65536
static uint32_t cells[CELLS];
static volatile uint32_t sink;

static long long clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

// Arithmetic and memory in an order that the processor does not foresee.
__attribute__((noinline)) static uint32_t blend(uint32_t seed) {
    for (int i = 0; i < 1000000; i++) {
        seed = seed * 1664525u + 1013904223u;
        cells[(seed >> 8) % CELLS] += seed ^ (seed >> 13);
    }
    return seed;
}

__attribute__((noinline)) static uint32_t page(int depth, uint32_t seed) {
    uint32_t done = depth ? page(depth - 1, seed + 1) : blend(seed);
    sink = done; // work after the call: the callers stay on the stack
    return done ^ depth;
}

static void *nap(void *arg) {
    for (;;)
        pause();
    return arg;
}

int main(void) {
    pthread_t thread;
    for (int i = 0; i < 4; i++)
        if (pthread_create(&thread, 0, nap, 0))
            return 1;
    for (uint32_t seed = 1;; seed++) {
        page(12, seed);
        char line[64];
        int n = snprintf(line, sizeof line, "%lld %lld\n", clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_PROCESS_CPUTIME_ID));
        if (write(1, line, n) != n)
            return 1;
    }
}
