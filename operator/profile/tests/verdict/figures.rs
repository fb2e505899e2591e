//! The tables of `docs/figures.md`.

use std::time::Duration;

use fleetprof_profile::verdict::{About, PodCapture, Settings, Side, verdict};
use fleetprof_profile::{Frame, Limits, ProfileBuilder, ProfileKind, decode_valid, encode};

use crate::fleet::{COUNTING, Design, Fleet, LARGE, Noise, SMALL};
use crate::rollouts::{Planted, SIZES, false_alarms, names, plainly, power, unchanged};

const ROLLOUTS: u64 = 2_000;
const POWER_ROLLOUTS: u64 = 200;

#[test]
#[ignore = "takes minutes: make soak"]
fn false_alarms_of_unchanged_revisions() {
    println!(
        "| {ROLLOUTS} rollouts without a change | regressed | by exchanging single captures | inconclusive |"
    );
    println!("|---|---|---|---|");
    for case in unchanged() {
        let rates = false_alarms(&case, ROLLOUTS, true);
        let percent = |part: f64| 100.0 * part;
        println!(
            "| {} | {:.1} % | {:.1} % | {:.0} % |",
            case.name,
            percent(rates.regressed),
            percent(rates.plain),
            percent(rates.inconclusive)
        );
        // Of 2,000 rollouts that are called slower at 5 %, at most 5.9 % are in 97.5 % of all seeds.
        assert!(rates.regressed <= 0.059, "{}: {rates:?}", case.name);
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn power_on_planted_regressions() {
    println!("| pods, samples, φ | function | told | +0.5 | +1 | +2 | +5 points |");
    println!("|---|---|---|---|---|---|---|");
    for design in [Design::Together { old: 4, new: 4 }, Design::Together { old: 12, new: 4 }] {
        for (samples, dispersion) in SIZES.into_iter().flat_map(|size| [(size, 1.0), (size, 4.0)]) {
            let fleet = Fleet::new(samples, Noise { dispersion, ..COUNTING });
            for (function, share) in [(LARGE, "5 %"), (SMALL, "1 %")] {
                let found = [0.005, 0.01, 0.02, 0.05].map(|rise| {
                    let planted = Planted { function, rise };
                    let by = |finds| 100.0 * power(&fleet, planted, design, POWER_ROLLOUTS, finds);
                    format!("{:.0}, {:.0}", by(names), by(plainly))
                });
                let told = if function == LARGE { told(&fleet, design) } else { String::new() };
                let Design::Together { old, new } = design else { continue };
                println!(
                    "| {old} + {new}, {samples}, {dispersion} | {share} | {told} | {} |",
                    found.join(" | ")
                );
            }
        }
    }
}

/// The smallest change that a comparison says it would find.
fn told(fleet: &Fleet, design: Design) -> String {
    let costs = fleet.same();
    let told = |seed| {
        let captures = crate::fleet::rollout(fleet, [&costs, &costs], design, 1.0, seed);
        verdict(&captures, &Settings::default(), seed).smallest
    };
    let mut told: Vec<f64> = (0..40).map(|seed| told(seed).unwrap_or(1.0)).collect();
    told.sort_by(f64::total_cmp);
    format!("{:.1}", 100.0 * told[told.len() / 2])
}

/// A profile of a service of 3,000 functions: 2,500 different stacks, 40 deep.
fn large_profile(seed: usize) -> Vec<u8> {
    let names: Vec<String> =
        (0..3_000).map(|n| format!("shop::cart::module_{}::function_{n}", n % 90)).collect();
    let files: Vec<String> = (0..90).map(|n| format!("/src/cart/module_{n}.rs")).collect();
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_101_010, 0);
    for stack in 0..2_500_usize {
        let frames: Vec<Frame<'_>> = (0..40)
            .map(|depth| (stack * 7 + depth * depth * 31) % names.len())
            .map(|n| Frame::named(&names[n], &files[n % 90], (n % 500) as i64 + 1))
            .collect();
        let hits = 1 + (stack * 31 + seed * 17) % 9;
        builder.add_hits(&frames, u32::try_from(hits).expect("small"), &[]).expect("a sample");
    }
    encode(&builder.finish(120_000_000_000, &[])).expect("it encodes")
}

/// CPU time of this thread, so that other work on the machine does not count.
fn cpu_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = times.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

#[test]
#[ignore = "measures"]
fn twelve_and_four() {
    let stored: Vec<Vec<u8>> = (0..16).map(large_profile).collect();
    let start = cpu_time();
    let captures: Vec<PodCapture> = stored
        .iter()
        .zip(0..)
        .map(|(bytes, n)| {
            let profile = decode_valid(bytes, &Limits::default()).expect("a profile");
            let side = if n < 12 { Side::Old } else { Side::New };
            let pod = format!("orders-{n}");
            let about =
                About { pod, side, moment: 0, pod_seconds: 120.0, cpu_seconds: None, coverage: Some(97) };
            PodCapture::of_profile(&profile, about).expect("a CPU profile")
        })
        .collect();
    let read = cpu_time() - start;
    let verdict = verdict(&captures, &Settings::default(), 1);
    let all = cpu_time() - start;
    let functions: usize = captures.iter().map(|capture| capture.functions.len()).max().unwrap_or(0);
    println!(
        "| verdict on 12 + 4 captures of 2,500 stacks, {functions} functions, {} arrangements | {:.2} CPU s, \
         {:.2} s of it to decode and sum the profiles |",
        verdict.arrangements,
        all.as_secs_f64(),
        read.as_secs_f64()
    );
    // The goal is of an optimized build.
    let most = if cfg!(debug_assertions) { 4.0 } else { 1.0 };
    assert!(all.as_secs_f64() < most, "{all:?}");
}
