// A target that waits.
// wait pay PORT    one thread asks a server and waits for its answer, then works for a while, again and again;
//                  another does so below a function with a frame pointer
// wait pool N      N threads wait for work that never comes
// wait pause       one thread and the first one wait for a signal
// wait lock        one thread holds a mutex that another one waits for
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

volatile unsigned long sink;
static int port;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;

static double used(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

__attribute__((noinline)) void guilty(double millis) {
    double end = used() + millis;
    while (used() < end)
        for (unsigned long i = 0; i < 100000; i++)
            sink = sink * 6364136223846793005UL + i;
    sink++;
}

__attribute__((noinline)) void pay(int server) {
    char byte = 'x';
    if (send(server, &byte, 1, 0) != 1 || recv(server, &byte, 1, 0) != 1)
        exit(1);
    sink++;
}

__attribute__((noinline, optimize("no-omit-frame-pointer"))) void framed(int server) {
    pay(server);
    sink++;
}

static int ask(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)&address, sizeof address)) {
        perror("connect");
        exit(1);
    }
    return server;
}

__attribute__((noinline)) void order(int server) {
    pay(server);
    guilty(20);
    sink++;
}

static void *orders(void *unused) {
    (void)unused;
    for (int server = ask();;)
        order(server);
    return 0;
}

static void *framed_orders(void *unused) {
    (void)unused;
    for (int server = ask();;)
        framed(server);
    return 0;
}

static void *parked(void *unused) {
    (void)unused;
    pthread_mutex_lock(&mutex);
    for (;;)
        pthread_cond_wait(&work, &mutex);
    return 0;
}

static void *pauses(void *unused) {
    (void)unused;
    for (;;)
        pause();
    return 0;
}

__attribute__((noinline)) void contended(void) {
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    sink++;
}

static void *contends(void *unused) {
    (void)unused;
    for (;;)
        contended();
    return 0;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    int n = argc > 2 ? atoi(argv[2]) : 1;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    pthread_t thread;
    if (!strcmp(mode, "pay")) {
        port = n;
        pthread_create(&thread, &small, framed_orders, 0);
        orders(0);
    }
    if (!strcmp(mode, "lock")) {
        pthread_mutex_lock(&mutex);
        pthread_create(&thread, &small, contends, 0);
    }
    if (!strcmp(mode, "pool"))
        for (int i = 0; i < n; i++)
            pthread_create(&thread, &small, parked, 0);
    if (!strcmp(mode, "pause")) {
        pthread_create(&thread, &small, pauses, 0);
        for (;;)
            pause();
    }
    for (;;)
        sleep(1000);
}
