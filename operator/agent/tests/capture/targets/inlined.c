// Works in a function that is inlined into one that is inlined into a third.
#define INLINED static inline __attribute__((always_inline))

volatile unsigned long sink;

INLINED unsigned long innermost(unsigned long x, unsigned long i) {
    return x * 6364136223846793005UL + i; // line of innermost
}

INLINED unsigned long middle(unsigned long n) {
    unsigned long x = n;
    for (unsigned long i = 0; i < n; i++)
        x = innermost(x, i); // line of middle
    return x;
}

__attribute__((noipa)) static void outer(unsigned long n) {
    sink = middle(n); // line of outer
}

int main(void) {
    for (;;) {
        outer(1000000);
        sink++;
    }
}
