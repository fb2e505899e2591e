//! A program whose hot function is gone from the tables once it is stripped.

mod basket {
    #[inline(always)]
    fn discount(value: u64) -> u64 {
        value.wrapping_mul(2_654_435_761) ^ (value >> 7)
    }

    #[inline(never)]
    pub fn total(rounds: u64) -> u64 {
        (0..rounds).fold(0, |sum, n| sum ^ std::hint::black_box(discount(sum.wrapping_add(n))))
    }
}

fn main() {
    println!("{}", basket::total(std::env::args().count() as u64 * 1000));
}
