//! Has what is measured of a container been above its threshold for long enough, or often enough? A run of samples per
//! container and measure.
//!
//! ```text
//!            ≥ threshold               window is over, mean ≥ threshold; or n of the last m ≥ threshold
//! (nothing) ─────────────► run of samples ─────────────────────────────────────────────────► firing
//!     ▲                          │ < threshold − 5, or none of the last m ≥ threshold, or no report for 2 min
//!     └──────────────────────────┘
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};

use fleetprof_crds::triggers::Checks;
use fleetprof_crds::wire::ContainerReport;
use jiff::{SignedDuration, Timestamp};

use super::Firing;
pub use super::measure::{Level, Measure, Rule, watch};
use crate::link::PodLink;
use crate::pod::Workload;
use crate::view::PolicyView;

/// A container of which nothing was heard for so long may have been quiet meanwhile. Agents of hot containers
/// report every 10 s in a small fleet, every 100 s in the largest.
pub const SILENCE: SignedDuration = SignedDuration::from_secs(120);
/// Reports closer together than this are one check: agents measure every 5 s, and report the same again when
/// something else is new.
pub const BETWEEN_CHECKS: SignedDuration = SignedDuration::from_secs(4);

/// What an agent told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Timestamp,
    /// Levels by container id and measure.
    pub levels: HashMap<(String, Measure), Level>,
    /// Ids of the containers whose signals the agent looked for: one without a level has none.
    pub signalled: HashSet<String>,
}

impl Heard {
    /// What an agent says of its containers.
    #[must_use]
    pub fn of(at: Timestamp, rows: &[ContainerReport]) -> Self {
        let level =
            |row: &ContainerReport, measure: Measure| Some(((row.id.clone(), measure), measure.of(row)?));
        let levels = rows.iter().flat_map(|row| Measure::ALL.into_iter().filter_map(|m| level(row, m)));
        let signalled = rows.iter().filter(|row| row.signals.is_some()).map(|row| row.id.clone());
        Self { at, levels: levels.collect(), signalled: signalled.collect() }
    }

    /// What two agents of a pod say together.
    pub fn join(&mut self, other: Self) {
        self.at = self.at.max(other.at);
        self.levels.extend(other.levels);
        self.signalled.extend(other.signalled);
    }
}

/// Samples of one container that are over the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    since: Timestamp,
    last: Timestamp,
    sum: i64,
    count: i64,
    of_node: bool,
    /// Whether each of the last samples was over the line, the newest in the lowest bit.
    hits: u32,
}

impl Run {
    const fn start(at: Timestamp, level: Level) -> Self {
        Self { since: at, last: at, sum: level.value as i64, count: 1, of_node: level.of_node, hits: 1 }
    }

    fn and(self, at: Timestamp, level: Level, hits: u32) -> Self {
        Self {
            last: at,
            sum: self.sum.saturating_add(i64::from(level.value)),
            count: self.count + 1,
            of_node: level.of_node,
            hits,
            ..self
        }
    }

    /// Mean of its samples, rounded down.
    #[must_use]
    pub const fn mean(&self) -> i64 {
        self.sum / self.count
    }

    /// Whether the line has been crossed for the window, or in as many checks as the rule says.
    #[must_use]
    pub fn fires(&self, rule: &Rule) -> bool {
        match rule.checks {
            Some(checks) => i64::from(self.hits.count_ones()) >= i64::from(checks.need),
            None => self.lasted(rule) && self.mean() >= i64::from(rule.threshold),
        }
    }

    fn lasted(&self, rule: &Rule) -> bool {
        self.last.duration_since(self.since) >= rule.window.as_signed()
    }
}

/// The run after one more sample; the same sample again changes nothing.
#[must_use]
pub fn follow(run: Option<Run>, at: Timestamp, level: Level, rule: &Rule) -> Option<Run> {
    let run = run.filter(|r| at.duration_since(r.last).abs() <= SILENCE);
    let is_over = level.value >= rule.threshold;
    match (run, rule.checks) {
        (Some(run), _) if at <= run.last => Some(run),
        (None, _) => is_over.then(|| Run::start(at, level)),
        (Some(run), Some(checks)) => check(run, at, level, rule, checks),
        // Long just below the line, now over it: what was before says nothing of now.
        (Some(run), None) if is_over && run.lasted(rule) && run.mean() < i64::from(rule.threshold) => {
            Some(Run::start(at, level))
        }
        (Some(run), None) => (level.value >= rule.end()).then(|| run.and(at, level, 1)),
    }
}

/// The run after one more check: it lasts while one of those that count is over the line.
fn check(run: Run, at: Timestamp, level: Level, rule: &Rule, checks: Checks) -> Option<Run> {
    if at.duration_since(run.last) < BETWEEN_CHECKS {
        return Some(run);
    }
    let kept = u32::MAX.checked_shr(u32::BITS.saturating_sub(checks.of.unsigned_abs())).unwrap_or(0);
    let hits = (run.hits << 1 | u32::from(level.value >= rule.threshold)) & kept;
    (hits != 0).then(|| run.and(at, level, hits))
}

/// How many containers a measure is known of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Containers that it is known of.
    pub measured: usize,
    /// Containers that have none, although their agent looked for it.
    pub lacking: usize,
}

/// The runs of one policy's containers. Forgotten with the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    runs: HashMap<(String, Measure), Run>,
    known: BTreeMap<Measure, Known>,
}

/// One pod over the line.
struct Crossing<'a> {
    link: &'a PodLink,
    run: Run,
}

impl Levels {
    /// Takes in what agents told, by pod uid, and says what fires. Containers that are gone are forgotten.
    pub fn firings(
        &mut self,
        policy: &PolicyView,
        links: &[PodLink],
        heard: &HashMap<String, Heard>,
    ) -> Vec<Firing> {
        let before = std::mem::take(self).runs;
        let mut firings = Vec::new();
        for rule in Rule::all(&policy.spec.triggers) {
            let crossings = self.follow_all(&rule, links, heard, &before);
            firings.extend(
                crossings.into_iter().map(|(workload, found)| firing(policy, &rule, workload, found)),
            );
        }
        firings
    }

    /// Whether a line is crossed now, so that it is worth to look again soon.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Of how many containers each measure is known that a trigger waits for.
    #[must_use]
    pub const fn known(&self) -> &BTreeMap<Measure, Known> {
        &self.known
    }

    fn follow_all<'a>(
        &mut self,
        rule: &Rule,
        links: &'a [PodLink],
        heard: &HashMap<String, Heard>,
        before: &HashMap<(String, Measure), Run>,
    ) -> BTreeMap<(&'a str, &'a Workload), Vec<Crossing<'a>>> {
        let mut found: BTreeMap<_, Vec<Crossing>> = BTreeMap::new();
        let known = self.known.entry(rule.measure).or_default();
        for link in links.iter().filter(|l| l.linked) {
            let (Some(container), Some(heard)) =
                (link.pod.container(&link.container), heard.get(&link.pod.uid))
            else {
                continue;
            };
            let key = (container.id.clone(), rule.measure);
            let Some(level) = heard.levels.get(&key) else {
                known.lacking += usize::from(heard.signalled.contains(&key.0));
                continue;
            };
            known.measured += 1;
            let Some(run) = follow(before.get(&key).copied(), heard.at, *level, rule) else { continue };
            self.runs.insert(key, run);
            if run.fires(rule) {
                found
                    .entry((&*link.pod.namespace, &*link.pod.workload))
                    .or_default()
                    .push(Crossing { link, run });
            }
        }
        found
    }
}

/// One firing for a workload, however many of its pods crossed the line: the hottest are captured, as many as
/// the policy says.
fn firing(
    policy: &PolicyView,
    rule: &Rule,
    (namespace, workload): (&str, &Workload),
    mut found: Vec<Crossing>,
) -> Firing {
    found.sort_by(|a, b| b.run.mean().cmp(&a.run.mean()).then_with(|| a.link.pod.name.cmp(&b.link.pod.name)));
    let crossed = found.len();
    let first = found.iter().map(|c| c.run.since).min().unwrap_or_default();
    let cause = found.first().map(|c| cause(rule, c, crossed)).unwrap_or_default();
    found.truncate(super::most_pods(policy));
    Firing {
        trigger: rule.measure.trigger(),
        source: rule.measure.source().into(),
        namespace: namespace.to_owned(),
        workload: workload.clone(),
        pods: found.iter().map(|c| c.link.pod.name.clone()).collect(),
        cause,
        key: first.as_second().to_string(),
        ongoing: Some(first),
        duration: rule.duration,
        cooldown: rule.cooldown,
        compare: None,
        labels: BTreeMap::new(),
    }
}

fn cause(rule: &Rule, crossing: &Crossing, crossed: usize) -> String {
    let Crossing { link, run } = crossing;
    let (name, container, pod) = (rule.measure.name(), &link.container, &link.pod.name);
    let others = if crossed > 1 { format!("; {crossed} pods exceeded it together") } else { String::new() };
    let (value, took) = match rule.checks {
        Some(Checks { of, .. }) => {
            let line = rule.measure.value(i64::from(rule.threshold), run.of_node);
            (format!("at least {line}"), format!("in {} of the last {of} checks", run.hits.count_ones()))
        }
        None => {
            let seconds = run.last.duration_since(run.since).as_secs();
            (rule.measure.value(run.mean(), run.of_node), format!("for {seconds} s"))
        }
    };
    format!("{name} of container {container} in pod {pod} was {value} {took} ({rule}){others}")
}
