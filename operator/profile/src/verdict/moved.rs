//! Did cost only move between functions that belong together?
//!
//! A function that is split, inlined, renamed or called from elsewhere changes shares without changing the
//! cost. Self shares that rose and fell together belong together where one function calls the other, or one
//! caller calls both. A cumulative share that rose is believed only where what it calls, down to the leaves,
//! really costs more by itself.

use std::collections::{BTreeSet, HashMap};

use super::capture::{PodCapture, Side};
use super::numbers::mean;
use super::plan::Plan;
use super::settings::Effect;
use super::table::{Name, share};

/// Cost has moved only where at most this part of the rise is left.
const MOST_LEFT: f64 = 0.5;

/// A self share that changed, beyond what the rest of the program did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change<'a> {
    pub name: Name<'a>,
    /// The share before.
    pub old: f64,
    /// How much it rose, or fell where negative.
    pub rise: f64,
}

/// Which function calls which, in any of the captures.
pub(super) struct Calls<'a> {
    callees: HashMap<Name<'a>, BTreeSet<Name<'a>>>,
    callers: HashMap<Name<'a>, BTreeSet<Name<'a>>>,
}

impl<'a> Calls<'a> {
    pub(super) fn of(plan: &Plan<'a>) -> Self {
        let mut calls = Self { callees: HashMap::new(), callers: HashMap::new() };
        for capture in plan.units.iter().flat_map(|unit| &unit.captures) {
            for call in &capture.calls {
                let (Some(caller), Some(callee)) = (name(capture, call.caller), name(capture, call.callee))
                else {
                    continue;
                };
                calls.callees.entry(caller).or_default().insert(callee);
                calls.callers.entry(callee).or_default().insert(caller);
            }
        }
        calls
    }

    fn callees(&self, name: Name<'a>) -> impl Iterator<Item = Name<'a>> + '_ {
        self.callees.get(&name).into_iter().flatten().copied()
    }

    fn callers(&self, name: Name<'a>) -> impl Iterator<Item = Name<'a>> + '_ {
        self.callers.get(&name).into_iter().flatten().copied()
    }

    /// Whether one calls the other, or a third one calls both.
    fn are_related(&self, one: Name<'a>, other: Name<'a>) -> bool {
        let calls = |caller, callee| self.callees.get(&caller).is_some_and(|all| all.contains(&callee));
        calls(one, other) || calls(other, one) || self.callers(one).any(|caller| calls(caller, other))
    }

    /// The function and all that it calls, directly or not.
    pub(super) fn below(&self, name: Name<'a>) -> BTreeSet<Name<'a>> {
        let (mut seen, mut todo) = (BTreeSet::from([name]), vec![name]);
        while let Some(next) = todo.pop() {
            todo.extend(self.callees(next).filter(|callee| seen.insert(*callee)));
        }
        seen
    }
}

fn name(capture: &PodCapture, position: u32) -> Option<Name<'_>> {
    let function = capture.functions.get(usize::try_from(position).ok()?)?;
    Some((&function.name, &function.file))
}

/// Functions among which cost moved, each group with what is left of it as a rise.
pub(super) struct Groups<'a> {
    groups: Vec<Group<'a>>,
}

struct Group<'a> {
    rises: Vec<Change<'a>>,
    falls: Vec<Change<'a>>,
}

impl<'a> Groups<'a> {
    /// Joins what rose with what fell, where they are related, directly or by others.
    pub(super) fn of(rises: &[Change<'a>], falls: &[Change<'a>], calls: &Calls<'a>) -> Self {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for rise in rises {
            let related = falls.iter().filter(|fall| calls.are_related(rise.name, fall.name));
            let mut joined = Group { rises: vec![*rise], falls: related.copied().collect() };
            let (same, others): (Vec<_>, Vec<_>) =
                groups.into_iter().partition(|group| group.shares_a_fall(&joined));
            for group in same {
                joined.join(group);
            }
            groups = others;
            groups.push(joined);
        }
        Self { groups }
    }

    /// The functions whose rise is made up for by what fell.
    pub(super) fn moved(&self, effect: &Effect) -> BTreeSet<Name<'a>> {
        let moved = self.groups.iter().filter(|group| group.is_moved(effect));
        moved.flat_map(|group| group.rises.iter().map(|rise| rise.name)).collect()
    }

    /// What fell in groups with any of these functions.
    pub(super) fn falls_beside(&self, names: &BTreeSet<Name<'a>>) -> Vec<Name<'a>> {
        let touched = self.groups.iter().filter(|g| g.rises.iter().any(|rise| names.contains(&rise.name)));
        touched.flat_map(|group| group.falls.iter().map(|fall| fall.name)).collect()
    }
}

impl Group<'_> {
    fn shares_a_fall(&self, other: &Self) -> bool {
        self.falls.iter().any(|fall| other.falls.iter().any(|o| o.name == fall.name))
    }

    fn join(&mut self, other: Self) {
        self.rises.extend(other.rises);
        for fall in other.falls {
            if self.falls.iter().all(|known| known.name != fall.name) {
                self.falls.push(fall);
            }
        }
    }

    fn is_moved(&self, effect: &Effect) -> bool {
        let sum = |changes: &[Change<'_>], of: fn(&Change<'_>) -> f64| changes.iter().map(of).sum::<f64>();
        let rose = sum(&self.rises, |change| change.rise);
        let left = rose + sum(&self.falls, |change| change.rise);
        let old = sum(&self.rises, |change| change.old) + sum(&self.falls, |change| change.old);
        !self.falls.is_empty() && left < effect.smallest(old, false) && left <= MOST_LEFT * rose
    }
}

/// The share that these functions have by themselves on one side: the mean of its captures.
pub(super) fn own_share(plan: &Plan<'_>, side: Side, names: &BTreeSet<Name<'_>>) -> f64 {
    let of_capture = |capture: &PodCapture| {
        let known = |name: &str, file: &str| names.contains(&(name, file));
        let own = capture.functions.iter().filter(|f| known(&f.name, &f.file)).map(|f| share(capture, f.own));
        own.sum::<f64>()
    };
    mean(plan.captures(side).map(of_capture))
}
