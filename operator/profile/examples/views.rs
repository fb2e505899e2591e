//! What do views of a session cost, and a merge beside that of `go tool pprof`? Prints rows of the table of
//! `make bench`; `tests/bench/views.py` calls it for the merge.
//!
//! ```text
//! views                     the views of a session of 2 minutes, and of one with 50 targets
//! views slices FOLDER N     writes N slices of 16,000 samples
//! views merge OUT FILE…     merges files as the operator does, into one
//! ```
#![allow(clippy::expect_used)]

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use fleetprof_profile::{
    Basis, CallTree, Differ, Frame, Grower, Limits, Merger, Order, Overlap, Profile, ProfileBuilder,
    ProfileKind, Side, TreeLimits, decode_valid, encode, render_diff, render_top, retain_labels, set_labels,
    top,
};

/// Samples of a slice: more than 15 s of 10 busy cores at 99 Hz give.
const SAMPLES: usize = 16_000;
/// Samples of a target in 2 minutes: two busy cores at 99 Hz.
const OF_TWO_MINUTES: usize = 2 * 120 * 99;
/// Functions of the program.
const FUNCTIONS: usize = 6_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => views(),
        ["slices", folder, count] => slices(Path::new(folder), count.parse().expect("a number")),
        ["merge", out, files @ ..] => {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            let merger = merger(files.iter().map(|file| std::fs::read(file).expect("a slice")), true);
            std::fs::write(out, merger.encode().expect("it is encoded")).expect("a folder");
        }
        _ => eprintln!("views [slices FOLDER N | merge OUT FILE...]"),
    }
}

fn slices(folder: &Path, count: u64) {
    for number in 0..count {
        let bytes = encode(&program(number, SAMPLES)).expect("it is encoded");
        std::fs::write(folder.join(format!("{number:03}.pb.gz")), bytes).expect("a folder");
    }
}

/// Merges as the operator does, one after the other.
fn merger(files: impl Iterator<Item = Vec<u8>>, labels: bool) -> Merger {
    let limits = Limits { memory_bytes: 1 << 30, ..Limits::default() };
    let mut merger = Merger::new(Overlap::Parallel);
    for bytes in files {
        let mut profile = decode_valid(&bytes, &limits).expect("a profile");
        if !labels {
            retain_labels(&mut profile, |_| false);
        }
        merger.add(&profile).expect("the same kind");
    }
    merger
}

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// Small numbers far more often than large ones, as in the calls of a program.
    fn skewed(&mut self, limit: usize) -> usize {
        let range = 1 + self.below(limit);
        let range = 1 + self.below(range);
        self.below(range)
    }
}

/// A CPU profile of a program of [`FUNCTIONS`] functions, each of which calls up to eight others, up to 60 deep.
fn program(seed: u64, samples: usize) -> Profile {
    let names: Vec<String> =
        (0..FUNCTIONS).map(|n| format!("shop::module_{}::Handler<T>::function_{n}", n % 190)).collect();
    let files: Vec<String> = (0..190).map(|n| format!("/src/shop/module_{n}.rs")).collect();
    let mut numbers = Numbers(seed.wrapping_mul(977).wrapping_add(3));
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_101_010, 0);
    let mut hits: HashMap<Vec<(usize, i64)>, u32> = HashMap::new();
    for _ in 0..samples {
        let depth = 8 + numbers.skewed(52);
        let mut at = 0;
        let mut stack: Vec<(usize, i64)> = (0..depth)
            .map(|level| {
                at = (at * 7 + level * 13 + 1 + 97 * numbers.skewed(8)) % FUNCTIONS;
                (at, 10 + numbers.skewed(4) as i64)
            })
            .collect();
        stack.reverse();
        *hits.entry(stack).or_default() += 1;
    }
    let mut stacks: Vec<_> = hits.into_iter().collect();
    stacks.sort_unstable();
    for (stack, hits) in stacks {
        let frame = |(n, line): &(usize, i64)| Frame::named(&names[*n], &files[*n % 190], *line);
        builder.add_hits(&stack.iter().map(frame).collect::<Vec<_>>(), hits, &[]).expect("a sample");
    }
    builder.finish(120_000_000_000, &[])
}

fn views() {
    let target = |n: u64| {
        let mut profile = program(n, OF_TWO_MINUTES);
        set_labels(
            &mut profile,
            &[("pod", &format!("cart-{n}")), ("namespace", "shop"), ("process", "cart")],
        );
        encode(&profile).expect("it is encoded")
    };
    let before: Vec<Vec<u8>> = (0..50).map(target).collect();
    let after: Vec<Vec<u8>> = (50..100).map(target).collect();
    for (targets, rounds) in [(1, 200), (50, 20)] {
        let read = |files: &[Vec<u8>]| {
            merger(files.iter().take(targets).cloned(), false).finish().expect("a profile")
        };
        let stacks = read(&after);
        let nodes = tree(&[(Side::After, &stacks)]).len();
        let size = format!("{} stacks, {nodes} nodes", stacks.sample.len());
        let what =
            if targets == 1 { "2 minutes of a target".to_owned() } else { format!("{targets} targets") };
        row("/top", &what, &size, rounds, || render_top(&top(&read(&after), 1, 20)).into_bytes());
        row("/flamegraph", &what, &size, rounds, || json(&tree(&[(Side::After, &read(&after))]), None));
        row("/diff", &what, &size, rounds, || {
            let mut differ = Differ::default();
            differ.add(Side::Base, &read(&before), 1, Some(120_000_000_000));
            differ.add(Side::After, &read(&after), 1, Some(120_000_000_000));
            render_diff(&differ.finish(Basis::PerPodSecond, Order::Own, 20)).into_bytes()
        });
        row("/diff as a call tree", &what, &size, rounds, || {
            let mut grower = Grower::new(TreeLimits::default());
            grower.add(Side::Base, &read(&before), 1, Some(120_000_000_000));
            grower.add(Side::After, &read(&after), 1, Some(120_000_000_000));
            json(&grower.finish(), Some(Basis::PerPodSecond))
        });
    }
}

fn tree(profiles: &[(Side, &Profile)]) -> CallTree {
    let mut grower = Grower::new(TreeLimits::default());
    for (side, profile) in profiles {
        grower.add(*side, profile, 1, None);
    }
    grower.finish()
}

/// The columns as they travel.
fn json(tree: &CallTree, basis: Option<Basis>) -> Vec<u8> {
    let json = serde_json::to_vec(&tree.columns(100_000, basis)).expect("it is encoded");
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&json).expect("memory takes bytes");
    packed.finish().expect("memory takes bytes")
}

/// Prints how long an answer takes from stored files on.
fn row(view: &str, what: &str, size: &str, rounds: usize, mut answer: impl FnMut() -> Vec<u8>) {
    let bytes = answer().len();
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(answer());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let at = |part: usize| times[(rounds * part).div_ceil(100) - 1].as_secs_f64() * 1e3;
    println!(
        "| `{view}` of {what} | p50 {:.0} ms, p99 {:.0} ms | – | {size}; answer of {} KB; {rounds} answers |",
        at(50),
        at(99),
        bytes.div_ceil(1_000)
    );
}
