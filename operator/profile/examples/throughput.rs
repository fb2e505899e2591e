//! How fast are profiles written, read, merged and summed?
//!
//! `cargo run --release -p fleetprof-profile --example throughput` on a profile of 10 000 different stacks,
//! 40 deep.

use std::hint::black_box;
use std::time::{Duration, Instant};

use fleetprof_profile::{
    CallTree, Frame, Limits, Overlap, Profile, ProfileBuilder, ProfileKind, TreeLimits, decode_valid, encode,
    fold, merge, set_labels, top,
};

const STACKS: usize = 10_000;
const DEPTH: usize = 40;
const ROUNDS: u32 = 20;

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }
}

fn build(seed: u64) -> Result<Profile, Box<dyn std::error::Error>> {
    let names: Vec<String> =
        (0..3_000).map(|n| format!("shop::cart::module_{}::function_{n}", n % 90)).collect();
    let files: Vec<String> = (0..90).map(|n| format!("/src/cart/module_{n}.rs")).collect();
    let mut numbers = Numbers(seed);
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_101_010, 0);
    for _ in 0..STACKS {
        let frames: Vec<Frame<'_>> = (0..DEPTH)
            .map(|_| numbers.below(names.len()))
            .map(|n| Frame::named(&names[n], &files[n % 90], (n % 500) as i64 + 1))
            .collect();
        builder.add_hits(&frames, 1, &[])?;
    }
    Ok(builder.finish(15_000_000_000, &[]))
}

fn measure<T>(what: &str, bytes: usize, mut work: impl FnMut() -> T) {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(work());
        best = best.min(start.elapsed());
    }
    let seconds = best.as_secs_f64();
    println!(
        "{what:<28} {:>8.2} ms  {:>7.1} MB/s  {:>8.0} samples/s",
        seconds * 1e3,
        bytes as f64 / 1e6 / seconds,
        STACKS as f64 / seconds
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut one, two) = (build(1)?, build(2)?);
    set_labels(&mut one, &[("pod", "cart-0"), ("namespace", "shop"), ("cluster", "test")]);
    let message = prost::Message::encoded_len(&one);
    let packed = encode(&one)?;
    println!(
        "{STACKS} samples, {} locations, {message} bytes, {} gzipped; best of {ROUNDS}",
        one.location.len(),
        packed.len()
    );
    measure("build", message, || build(1).map(|profile| profile.sample.len()).ok());
    measure("encode", message, || encode(&one).ok());
    measure("decode and validate", message, || decode_valid(&packed, &Limits::default()).ok());
    measure("merge two", 2 * message, || merge([&one, &two], Overlap::Parallel).ok());
    measure("merge eight equal", 8 * message, || merge([&one; 8], Overlap::Sequential).ok());
    measure("top 20", message, || top(&one, 1, 20));
    measure("fold", message, || fold(&one, 1));
    measure("columns of 100,000", message, || {
        CallTree::of(&one, 1, TreeLimits::default()).columns(100_000, None)
    });
    Ok(())
}
