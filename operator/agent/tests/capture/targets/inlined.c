// Works in a function that is inlined into one that is inlined into a third.
#define INLINED static inline __attribute__((always_inline))

volatile unsigned long sink;

// The loop is one line: which of its instructions a sample shows depends on the processor.
INLINED unsigned long innermost(unsigned long n, unsigned long x) {
    for (unsigned long i = 0; i < n; i++) x = x * 6364136223846793005UL + i; // line of innermost
    return x;
}

INLINED unsigned long middle(unsigned long n) {
    return innermost(n, n); // line of middle
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
