/* Uses so many thousandths of a core: duty PERMILLE. With 0 it sleeps. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long sink;

static double used(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

__attribute__((noinline)) static void work(double seconds) {
    for (double until = used() + seconds; used() < until;)
        for (int i = 0; i < 1000; i++) sink += i;
}

int main(int argc, char **argv) {
    double share = argc > 1 ? atof(argv[1]) / 1000 : 0;
    if (share <= 0)
        for (;;) pause();
    for (;;) {
        work(0.01 * share);
        usleep((useconds_t)(10000 * (1 - share)));
    }
}
