//! What stands on an invoice?

/// One position of an invoice.
pub struct Line {
    /// What was sold.
    pub text: String,
    /// Price in cents.
    pub cents: u64,
}

/// An invoice of the shop.
pub struct Invoice {
    /// Its number.
    pub number: u64,
    /// Its positions.
    pub lines: Vec<Line>,
}

const GOODS: [(&str, u64); 6] = [
    ("Green tea, 100 g", 640),
    ("Black tea, 100 g", 590),
    ("Cast-iron pot", 4900),
    ("Two cups", 1890),
    ("The Book of Tea", 1250),
    ("Fine sieve", 780),
];

impl Invoice {
    /// The invoice of that number: the same number has the same lines.
    pub fn sample(number: u64) -> Self {
        let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let count = 2 + next(9);
        let lines = (0..count)
            .map(|_| {
                let (text, cents) = GOODS[next(GOODS.len() as u64) as usize];
                let quantity = 1 + next(5);
                Line { text: format!("{quantity} x {text}"), cents: cents * quantity }
            })
            .collect();
        Self { number, lines }
    }

    /// The sum in cents.
    pub fn total(&self) -> u64 {
        self.lines.iter().map(|line| line.cents).sum()
    }
}
