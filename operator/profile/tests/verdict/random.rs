//! Random numbers of the distributions that a fleet is made of, the same for a seed.

/// `SplitMix64`.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0, below 1.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Mean 0, variance 1 (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Mean and variance `shape` (Marsaglia and Tsang 2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape <= 0.0 {
            return 0.0;
        }
        if shape < 1.0 {
            return self.gamma(shape + 1.0) * self.uniform().powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Mean 1, standard deviation `spread`.
    pub fn around_one(&mut self, spread: f64) -> f64 {
        if spread <= 0.0 {
            return 1.0;
        }
        let shape = 1.0 / (spread * spread);
        self.gamma(shape) / shape
    }

    /// Poisson numbers: a large mean is halved by a gamma number until it is small (Ahrens and Dieter 1974).
    pub fn poisson(&mut self, mut mean: f64) -> i64 {
        let mut count = 0;
        while mean > 20.0 {
            let part = (mean * 0.875).floor();
            let reached = self.gamma(part);
            if reached > mean {
                return count + self.binomial(part as i64 - 1, mean / reached);
            }
            count += part as i64;
            mean -= reached;
        }
        let (limit, mut product) = ((-mean).exp(), self.uniform());
        while product > limit {
            count += 1;
            product *= self.uniform();
        }
        count
    }

    /// How many of `trials` come true.
    fn binomial(&mut self, trials: i64, chance: f64) -> i64 {
        (0..trials).filter(|_| self.uniform() < chance).count() as i64
    }
}

#[test]
fn numbers_have_the_means_and_variances_of_their_distributions() {
    let mut random = Random::new(1);
    let mut moments = |draw: &mut dyn FnMut(&mut Random) -> f64| {
        let draws: Vec<f64> = (0..40_000).map(|_| draw(&mut random)).collect();
        let mean = draws.iter().sum::<f64>() / 40_000.0;
        (mean, draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 40_000.0)
    };
    for shape in [0.3, 5.0, 900.0] {
        let (mean, variance) = moments(&mut |random| random.gamma(shape));
        assert!(
            (mean / shape - 1.0).abs() < 0.03 && (variance / shape - 1.0).abs() < 0.06,
            "gamma of {shape}"
        );
    }
    for wanted in [0.2, 7.0, 150.0, 3_000.0] {
        let (mean, variance) = moments(&mut |random| random.poisson(wanted) as f64);
        assert!(
            (mean / wanted - 1.0).abs() < 0.03 && (variance / wanted - 1.0).abs() < 0.06,
            "poisson of {wanted}"
        );
    }
}
