// Works in functions of which three are exported; the others have no name once the program is stripped.
// main ─► exported_outer ─► hidden_middle ─► hidden_leaf
//    └──► exported_other ─► exported_leaf
#define EXPORTED __attribute__((noipa, visibility("default")))
#define HIDDEN __attribute__((noipa)) static

volatile unsigned long sink;

HIDDEN unsigned long hidden_leaf(unsigned long n) {
    unsigned long x = n;
    for (unsigned long i = 0; i < n; i++)
        x = x * 6364136223846793005UL + i;
    return x;
}

HIDDEN void hidden_middle(void) {
    sink = hidden_leaf(700000);
    sink++;
}

EXPORTED void exported_outer(void) {
    hidden_middle();
    sink++;
}

EXPORTED unsigned long exported_leaf(unsigned long n) {
    unsigned long x = n;
    for (unsigned long i = 0; i < n; i++)
        x = x * 6364136223846793005UL + i;
    return x;
}

EXPORTED void exported_other(void) {
    sink = exported_leaf(300000);
    sink++;
}

int main(void) {
    for (;;) {
        exported_outer();
        exported_other();
    }
}
