//! Has the use of a container been above its threshold for long enough? A run of samples per container and
//! resource.
//!
//! ```text
//!            ≥ threshold               window is over, mean ≥ threshold
//! (nothing) ─────────────► run of samples ─────────────────────────────► firing
//!     ▲                          │ < threshold − 5, or no report for 2 min
//!     └──────────────────────────┘
//! ```

use std::collections::{BTreeMap, HashMap};

use fleetprof_crds::session::Trigger;
use fleetprof_crds::triggers::LevelTrigger;
use jiff::{SignedDuration, Timestamp};

use super::Firing;
use crate::link::PodLink;
use crate::pod::Workload;
use crate::view::PolicyView;

/// Points below the threshold at which a run ends: a container that hovers around the line is over it as a
/// whole or not.
pub const HYSTERESIS: i32 = 5;
/// A container of which nothing was heard for so long may have been quiet meanwhile. Agents of hot containers
/// report every 10 s in a small fleet, every 100 s in the largest.
pub const SILENCE: SignedDuration = SignedDuration::from_secs(120);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// CPU time.
    Cpu,
    /// Working set.
    Memory,
}

/// One measured value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Per cent of the container's limit, of the node where it has none.
    pub percent: i32,
    /// It has no limit of its own.
    pub of_node: bool,
}

/// What an agent told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Timestamp,
    /// Levels by container id and measure.
    pub levels: HashMap<(String, Measure), Level>,
}

/// Samples of one container that are over the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    since: Timestamp,
    last: Timestamp,
    sum: i64,
    count: i64,
    of_node: bool,
}

impl Run {
    const fn start(at: Timestamp, level: Level) -> Self {
        Self { since: at, last: at, sum: level.percent as i64, count: 1, of_node: level.of_node }
    }

    /// Mean of its samples, rounded down.
    #[must_use]
    pub const fn mean(&self) -> i64 {
        self.sum / self.count
    }

    /// Whether the line has been crossed for the window.
    #[must_use]
    pub fn fires(&self, rule: &LevelTrigger) -> bool {
        self.lasted(rule) && self.mean() >= i64::from(rule.threshold)
    }

    fn lasted(&self, rule: &LevelTrigger) -> bool {
        self.last.duration_since(self.since) >= rule.window.as_signed()
    }
}

/// The run after one more sample; the same sample again changes nothing.
#[must_use]
pub fn follow(run: Option<Run>, at: Timestamp, level: Level, rule: &LevelTrigger) -> Option<Run> {
    let run = run.filter(|r| at.duration_since(r.last).abs() <= SILENCE);
    match run {
        Some(run) if at <= run.last => Some(run),
        // Long just below the line, now over it: what was before says nothing of now.
        Some(run)
            if level.percent >= rule.threshold
                && run.lasted(rule)
                && run.mean() < i64::from(rule.threshold) =>
        {
            Some(Run::start(at, level))
        }
        Some(run) if level.percent >= rule.threshold - HYSTERESIS => Some(Run {
            last: at,
            sum: run.sum.saturating_add(i64::from(level.percent)),
            count: run.count + 1,
            of_node: level.of_node,
            ..run
        }),
        Some(_) => None,
        None => (level.percent >= rule.threshold).then(|| Run::start(at, level)),
    }
}

/// The runs of one policy's containers. Forgotten with the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels(HashMap<(String, Measure), Run>);

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
        let triggers = &policy.spec.triggers;
        let before = std::mem::take(&mut self.0);
        let mut firings = Vec::new();
        for (measure, rule) in [(Measure::Cpu, &triggers.cpu), (Measure::Memory, &triggers.memory)] {
            let Some(rule) = rule else { continue };
            let crossings = self.follow_all(measure, rule, links, heard, &before);
            firings.extend(
                crossings.into_iter().map(|(workload, found)| firing(policy, measure, rule, workload, found)),
            );
        }
        firings
    }

    /// Whether a line is crossed now, so that it is worth to look again soon.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    fn follow_all<'a>(
        &mut self,
        measure: Measure,
        rule: &LevelTrigger,
        links: &'a [PodLink],
        heard: &HashMap<String, Heard>,
        before: &HashMap<(String, Measure), Run>,
    ) -> BTreeMap<(&'a str, &'a Workload), Vec<Crossing<'a>>> {
        let mut found: BTreeMap<_, Vec<Crossing>> = BTreeMap::new();
        for link in links.iter().filter(|l| l.linked) {
            let (Some(container), Some(heard)) =
                (link.pod.container(&link.container), heard.get(&link.pod.uid))
            else {
                continue;
            };
            let key = (container.id.clone(), measure);
            let Some(level) = heard.levels.get(&key) else { continue };
            let Some(run) = follow(before.get(&key).copied(), heard.at, *level, rule) else { continue };
            self.0.insert(key, run);
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
    measure: Measure,
    rule: &LevelTrigger,
    (namespace, workload): (&str, &Workload),
    mut found: Vec<Crossing>,
) -> Firing {
    found.sort_by(|a, b| b.run.mean().cmp(&a.run.mean()).then_with(|| a.link.pod.name.cmp(&b.link.pod.name)));
    let crossed = found.len();
    let first = found.iter().map(|c| c.run.since).min().unwrap_or_default();
    let cause = found.first().map(|c| cause(measure, rule, c, crossed)).unwrap_or_default();
    found.truncate(super::most_pods(policy));
    let (trigger, source) = match measure {
        Measure::Cpu => (Trigger::Cpu, "cpu"),
        Measure::Memory => (Trigger::Memory, "memory"),
    };
    Firing {
        trigger,
        source: source.into(),
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

fn cause(measure: Measure, rule: &LevelTrigger, crossing: &Crossing, crossed: usize) -> String {
    let Crossing { link, run } = crossing;
    let (what, whole, limit) = match measure {
        Measure::Cpu => ("CPU", "the node's cores", "CPU"),
        Measure::Memory => ("Memory", "the node's memory", "memory"),
    };
    let of =
        if run.of_node { format!("of {whole} (it has no {limit} limit)") } else { "of its limit".into() };
    let others = if crossed > 1 { format!("; {crossed} pods exceeded it together") } else { String::new() };
    format!(
        "{what} of container {} in pod {} was {} % {of} for {} s (threshold {} %){others}",
        link.container,
        link.pod.name,
        run.mean(),
        run.last.duration_since(run.since).as_secs(),
        rule.threshold,
    )
}
