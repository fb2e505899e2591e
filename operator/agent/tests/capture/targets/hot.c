// A target with one guilty function: nine tenths of its CPU time.
// hot spin N      N threads spin
// hot churn       a new thread after every 120 ms of CPU time does the work
// hot signals     spins while a timer interrupts it 500 times a second; prints the count at exit by SIGTERM
// hot idle        sleeps
// hot jit         spins in code that it wrote itself, and names it in /tmp/perf-PID.map
// hot deep         spins below 64 frames of 4 KiB each
// hot doze        works for about ten milliseconds, sleeps for twenty, again and again
// hot burst MS    spins for so many milliseconds of wall clock and ends
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

volatile unsigned long sink;
static volatile sig_atomic_t alarms, queued, ended;

__attribute__((noinline)) void guilty(unsigned long n) {
    unsigned long x = n;
    for (unsigned long i = 0; i < n; i++)
        x = x * 6364136223846793005UL + i; // the guilty line
    sink = x;
}

__attribute__((noinline)) void innocent(unsigned long n) {
    unsigned long x = n;
    for (unsigned long i = 0; i < n; i++)
        x = x * 6364136223846793005UL + i;
    sink = x;
}

__attribute__((noinline)) void work(void) {
    guilty(900000);
    innocent(100000);
    sink++;
}

static double read_clock(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static double now(void) { return read_clock(CLOCK_MONOTONIC); }

static void *spin(void *arg) {
    double end = arg ? now() + *(double *)arg : 0;
    while (!ended && (!arg || now() < end))
        work();
    return 0;
}

static void *short_life(void *arg) {
    while (read_clock(CLOCK_THREAD_CPUTIME_ID) < 120)
        work();
    return arg;
}

__attribute__((noinline)) static unsigned long template_of_made_code(unsigned long n) {
    unsigned long x = n;
    for (unsigned long i = 0; i < n; i++)
        x = x * 6364136223846793005UL + i;
    return x;
}

static void jit(void) {
    unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(code, (void *)template_of_made_code, 256);
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
    FILE *map = fopen(path, "w");
    fprintf(map, "%lx 100 made:guilty\n", (unsigned long)code);
    fclose(map);
    for (;;)
        sink = ((unsigned long (*)(unsigned long))code)(1000000);
}

__attribute__((noinline)) static unsigned long deep(int levels) {
    volatile char room[4096];
    room[levels] = 1;
    if (levels == 0)
        work();
    else
        deep(levels - 1);
    return room[levels] + sink;
}

static void *nap(void *arg) {
    (void)arg;
    for (;;)
        pause();
}

static void on_alarm(int s) { (void)s; alarms++; }
static void on_queue(int s) { (void)s; queued++; }
static void on_term(int s) { (void)s; ended = 1; }

static void signals(void) {
    signal(SIGALRM, on_alarm);
    signal(SIGRTMIN + 3, on_queue);
    signal(SIGTERM, on_term);
    struct itimerval every = {{0, 2000}, {0, 2000}};
    setitimer(ITIMER_REAL, &every, 0);
    double last = now();
    while (!ended) {
        work();
        if (now() - last > 10) { // a real-time signal to itself, about 100 a second
            last = now();
            raise(SIGRTMIN + 3);
            sink = queued;
        }
    }
    printf("%d %d\n", (int)alarms, (int)queued);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "spin";
    double arg = argc > 2 ? atof(argv[2]) : 1;
    pthread_t thread;
    if (!strcmp(mode, "spin")) {
        pthread_create(&thread, 0, nap, 0);
        for (int i = 1; i < arg; i++)
            pthread_create(&thread, 0, spin, 0);
        spin(0);
    } else if (!strcmp(mode, "churn")) {
        for (;;) {
            pthread_create(&thread, 0, short_life, 0);
            pthread_join(thread, 0);
        }
    } else if (!strcmp(mode, "signals")) {
        signals();
    } else if (!strcmp(mode, "jit")) {
        jit();
    } else if (!strcmp(mode, "deep")) {
        for (;;)
            deep(64);
    } else if (!strcmp(mode, "doze")) {
        for (;;) {
            guilty(9000000);
            innocent(1000000);
            usleep(20000);
        }
    } else if (!strcmp(mode, "burst")) {
        spin(&arg);
    } else {
        nap(0);
    }
    return 0;
}
