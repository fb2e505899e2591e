//! What does each function of a profile sum up to, by itself and with what it calls?

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::proto::Profile;
use crate::view::{Symbols, value};

/// Most frames of a stack that are counted, from the leaf on: a collector takes 1,024 at most, which inlining
/// may double. A hostile location can hold thousands of inlined functions, and a stack thousands of
/// locations.
const MAX_FRAMES: usize = 4_096;

/// The sums of one value, by function number.
pub(crate) struct Sums {
    /// Over all samples.
    pub(crate) total: i64,
    own: Vec<i64>,
    cum: Vec<i64>,
    lines: HashMap<(usize, i64), i64>,
}

impl Sums {
    /// Adds up the value at `value_index` of every sample.
    pub(crate) fn of(profile: &Profile, symbols: &Symbols<'_>, value_index: usize) -> Self {
        let functions = symbols.names.len();
        let mut sums =
            Self { total: 0, own: vec![0; functions], cum: vec![0; functions], lines: HashMap::new() };
        // The number of the last sample that counted a function, so that recursion counts once.
        let mut counted = vec![0_usize; functions];
        for (position, sample) in profile.sample.iter().enumerate() {
            let value = value(sample, value_index);
            sums.total = sums.total.saturating_add(value);
            if value == 0 {
                continue;
            }
            for (depth, place) in symbols.frames(sample).take(MAX_FRAMES).enumerate() {
                if depth == 0 {
                    sums.leaf(place.name, place.line, value);
                }
                if let Some(last) = counted.get_mut(place.name).filter(|last| **last <= position) {
                    *last = position + 1;
                    add(&mut sums.cum, place.name, value);
                }
            }
        }
        sums
    }

    fn leaf(&mut self, name: usize, line: i64, value: i64) {
        add(&mut self.own, name, value);
        let sum = self.lines.entry((name, line)).or_insert(0);
        *sum = sum.saturating_add(value);
    }

    /// The functions that any counted sample passes through.
    pub(crate) fn used(&self) -> impl Iterator<Item = usize> + '_ {
        self.cum.iter().enumerate().filter(|(_, cum)| **cum != 0).map(|(number, _)| number)
    }

    /// What a function used itself.
    pub(crate) fn own(&self, number: usize) -> i64 {
        self.own.get(number).copied().unwrap_or(0)
    }

    /// What it used with what it called.
    pub(crate) fn cum(&self, number: usize) -> i64 {
        self.cum.get(number).copied().unwrap_or(0)
    }

    /// The heavier function first: by self value, then cumulative value, then name.
    pub(crate) fn heavier(&self, symbols: &Symbols<'_>, one: usize, other: usize) -> Ordering {
        let values = |number| (self.own(number), self.cum(number));
        values(other).cmp(&values(one)).then_with(|| symbols.names.get(one).cmp(&symbols.names.get(other)))
    }

    /// The hottest line of each function that has a value of its own; the smaller line wins a tie.
    pub(crate) fn hottest_lines(&self) -> HashMap<usize, i64> {
        let mut hottest: HashMap<usize, (i64, i64)> = HashMap::new();
        for (&(name, line), &value) in &self.lines {
            let best = hottest.entry(name).or_insert((value, line));
            if (value, -line) > (best.0, -best.1) {
                *best = (value, line);
            }
        }
        hottest.into_iter().map(|(name, (_, line))| (name, line)).collect()
    }
}

fn add(sums: &mut [i64], position: usize, value: i64) {
    if let Some(sum) = sums.get_mut(position) {
        *sum = sum.saturating_add(value);
    }
}
