//! Which captures count, and how much does a pod use in each session?

use std::collections::{BTreeMap, BTreeSet};

use super::settings::{MOST_SESSIONS, Settings};
use crate::kind::ProfileKind;
use crate::verdict::PodCapture;
use crate::verdict::numbers::{mean, ratio};

/// A capture of CPU time with fewer samples than this says nothing.
const FEWEST_SAMPLES: i64 = 20;

/// The captures of a session; at least one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit<'a> {
    pub moment: u32,
    pub captures: Vec<&'a PodCapture>,
}

/// The last sessions with captures that count, each pod once, in the order of time.
pub(super) fn units<'a>(kind: ProfileKind, captures: &'a [PodCapture], settings: &Settings) -> Vec<Unit<'a>> {
    let mut seen = BTreeSet::new();
    let mut units: BTreeMap<u32, Vec<&PodCapture>> = BTreeMap::new();
    for capture in captures.iter().filter(|capture| counts(kind, capture, settings)) {
        if seen.insert((capture.about.moment, &capture.about.pod)) {
            units.entry(capture.about.moment).or_default().push(capture);
        }
    }
    let beyond = units.len().saturating_sub(MOST_SESSIONS);
    let last = units.into_iter().skip(beyond);
    last.map(|(moment, captures)| Unit { moment, captures }).collect()
}

fn counts(kind: ProfileKind, capture: &PodCapture, settings: &Settings) -> bool {
    if kind != ProfileKind::Cpu {
        return capture.value > 0;
    }
    let covered = capture.about.coverage.is_none_or(|share| share >= settings.min_coverage);
    covered && capture.samples >= FEWEST_SAMPLES && used(kind, capture) > 0.0
}

/// All that the pod of a capture uses: cores, or the unit of the kind.
fn used(kind: ProfileKind, capture: &PodCapture) -> f64 {
    let value = capture.value.max(0) as f64;
    if kind == ProfileKind::Cpu {
        ratio(capture.about.cpu_seconds.unwrap_or(value / 1e9), capture.about.pod_seconds).max(0.0)
    } else {
        value
    }
}

/// What the functions with these values use of it.
pub(super) fn amount(kind: ProfileKind, capture: &PodCapture, value: i64) -> f64 {
    used(kind, capture) * ratio(value.max(0) as f64, capture.value.max(0) as f64).min(1.0)
}

/// All that a pod of the session uses.
pub(super) fn total(kind: ProfileKind, unit: &Unit<'_>) -> f64 {
    mean(unit.captures.iter().map(|capture| used(kind, capture)))
}
