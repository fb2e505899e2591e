// A program whose hot function is neither exported nor left in the tables that `strip` spares.
#include <cstdio>
#include <cstdlib>

namespace shop {

struct Basket {
    unsigned long sum = 0;
    __attribute__((noinline)) void total(unsigned long rounds);
};

static inline __attribute__((always_inline)) unsigned long discount(unsigned long value) {
    return value * 2654435761u ^ (value >> 7);
}

void Basket::total(unsigned long rounds) {
    for (unsigned long n = 0; n < rounds; n++)
        sum += discount(sum + n);
}

}  // namespace shop

int main(int count, char **words) {
    shop::Basket basket;
    basket.total(count > 1 ? std::strtoul(words[1], nullptr, 10) : 1000);
    std::printf("%lu\n", basket.sum);
}
