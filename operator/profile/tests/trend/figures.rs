//! The tables of `docs/figures.md`.

use fleetprof_profile::ProfileKind::{Cpu, Heap};
use fleetprof_profile::trend::Settings;

use crate::fleet::{COUNTING, Noise};
use crate::life::{Change, Life, PLAIN};
use crate::looks::{disguised, finds, rates, unchanged};

const LOOKS: u64 = 300;
const POWER_LOOKS: u64 = 100;

#[test]
#[ignore = "takes minutes: make soak"]
fn false_alarms_where_nothing_grows() {
    // Fewer orders than by default only make p coarser.
    let at = |error_rate| Settings { error_rate, orders: 2_000, ..Settings::default() };
    println!("| {LOOKS} looks | growing, of 1 % | growing, of 5 % | inconclusive |");
    println!("|---|---|---|---|");
    let percent = |part: f64| 100.0 * part;
    let print = |name: &str, [one, five]: [crate::looks::Rates; 2]| {
        let (few, many, cannot) = (percent(one.growing), percent(five.growing), percent(one.inconclusive));
        println!("| {name} | {few:.1} % | {many:.1} % | {cannot:.0} % |");
        // Of 300 looks that are called growing at 5 %, at most 7.7 % are in 97.5 % of all seeds.
        assert!(five.growing <= 0.077, "{name}: {five:?}");
    };
    for (name, kind, life) in unchanged() {
        print(name, [0.01, 0.05].map(|rate| rates(LOOKS, &at(rate), |_| (kind, life))));
    }
    for (name, kind, life) in disguised() {
        let of = |seed: u64| (kind, life((seed % 24) as f64 / 24.0));
        print(name, [0.01, 0.05].map(|rate| rates(LOOKS, &at(rate), of)));
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn power_on_planted_growth() {
    println!("| found of {POWER_LOOKS} | sessions | × 1.3 | × 1.5 | × 2 | × 4 |");
    println!("|---|---|---|---|---|---|");
    let hours = Noise { moments: 0.1, load: 0.3, ..COUNTING };
    for (kind, name) in [(Cpu, "CPU, a function of 5 %"), (Heap, "memory, a function of 1.5 %")] {
        for (noise, how) in [(COUNTING, "counting alone"), (hours, "10 % between sessions")] {
            for sessions in [8, 12, 24, 48] {
                let found = [1.3, 1.5, 2.0, 4.0].map(|times| {
                    let life = Life { sessions, noise, change: Change::Grows(times), ..PLAIN };
                    let settings = Settings { orders: 2_000, ..Settings::default() };
                    let found = (0..POWER_LOOKS).filter(|s| finds(kind, &life, &settings, *s));
                    format!("{:.0} %", 100.0 * found.count() as f64 / POWER_LOOKS as f64)
                });
                println!("| {name}, {how} | {sessions} | {} |", found.join(" | "));
            }
        }
    }
}
