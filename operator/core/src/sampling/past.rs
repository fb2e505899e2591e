//! What did earlier rounds capture of each workload?

use std::collections::BTreeMap;

use fleetprof_crds::session::{PolicyRef, Trigger};
use fleetprof_crds::session_status::TargetStatus;
use fleetprof_crds::{ProfileKind, ProfileSession, Reason};
use jiff::{SignedDuration, Timestamp};

use super::{Effort, ROUNDS};
use crate::capture::rate;

/// What a round did with a workload, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// When its targets were picked.
    pub started: Timestamp,
    /// What it was to do.
    pub effort: Effort,
    /// How many times a pod was looked at in fact; 0 where nothing was captured.
    pub ticks: f64,
    /// CPU samples that it gave.
    pub samples: i64,
}

/// The rounds of a policy that have ended, by namespace and workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past(BTreeMap<String, BTreeMap<String, Vec<Round>>>);

impl Past {
    /// Those among `sessions` that the schedule of the policy started. Those of triggers and people are left out:
    /// they capture pods that stand out.
    #[must_use]
    pub fn of<'s>(policy: &PolicyRef, sessions: impl IntoIterator<Item = &'s ProfileSession>) -> Self {
        let mut past = Self::default();
        for session in sessions {
            let is_round = session.spec.trigger == Trigger::Schedule
                && session.spec.policy_ref.as_ref() == Some(policy)
                && session.status.as_ref().is_some_and(|status| status.phase.is_terminal());
            if is_round {
                past.add(session);
            }
        }
        for rounds in past.0.values_mut().flat_map(BTreeMap::values_mut) {
            rounds.sort_by_key(|round| std::cmp::Reverse(round.started));
        }
        past
    }

    fn add(&mut self, session: &ProfileSession) {
        let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
        let Some(status) = &session.status else { return };
        let Some(started) = status.start_time.as_ref().map(|time| time.0) else { return };
        let mut targets: BTreeMap<&str, Vec<&TargetStatus>> = BTreeMap::new();
        for target in status.targets.iter().filter(|target| !target.workload.is_empty()) {
            targets.entry(&target.workload).or_default().push(target);
        }
        let of_namespace = self.0.entry(namespace.to_owned()).or_default();
        for (workload, targets) in targets {
            let Some(round) = round(session, started, &targets) else { continue };
            of_namespace.entry(workload.to_owned()).or_default().push(round);
        }
    }

    /// The rounds of a workload, the newest first.
    #[must_use]
    pub fn rounds(&self, namespace: &str, workload: &str) -> &[Round] {
        self.0.get(namespace).and_then(|of| of.get(workload)).map_or(&[], Vec::as_slice)
    }

    /// How many samples a workload gave per hour, on average over its last rounds. The time until the round after
    /// the newest one counts as well, that is `gap`; `None` without a round.
    #[must_use]
    pub fn per_hour(&self, (namespace, workload): (&str, &str), gap: SignedDuration) -> Option<i64> {
        let rounds = self.rounds(namespace, workload);
        let rounds = rounds.get(..ROUNDS.min(rounds.len()))?;
        let (newest, oldest) = (rounds.first()?, rounds.last()?);
        let span = newest.started.duration_since(oldest.started).saturating_add(gap).as_secs().max(1);
        let samples: i64 = rounds.iter().map(|round| round.samples).fold(0, i64::saturating_add);
        Some(samples.saturating_mul(3600) / span)
    }
}

fn round(session: &ProfileSession, started: Timestamp, targets: &[&TargetStatus]) -> Option<Round> {
    let rate = rate(session, targets.first()?);
    let effort = Effort { pods: targets.len(), seconds: rate.seconds, frequency_hz: rate.frequency_hz };
    let captured = targets.iter().filter_map(|target| captured(session, target));
    let (ticks, samples) =
        captured.fold((0.0, 0i64), |(ticks, samples), (t, n)| (ticks + t, samples.saturating_add(n)));
    Some(Round { started, effort, ticks, samples })
}

/// Ticks and CPU samples of a target; `None` where nothing is known of what it would have given. An idle app is
/// known: it gives none.
fn captured(session: &ProfileSession, target: &TargetStatus) -> Option<(f64, i64)> {
    let (start, end) = (target.start_time.as_ref()?.0, target.end_time.as_ref()?.0);
    let profile = target.profiles.iter().find(|profile| profile.kind == ProfileKind::Cpu);
    let samples = match profile {
        Some(profile) => profile.samples.max(0),
        None if target.reason == Some(Reason::NoSamples) => 0,
        None => return None,
    };
    let rate = rate(session, target);
    let seconds = end.duration_since(start).as_secs_f64().clamp(0.0, rate.seconds.into());
    Some((seconds * f64::from(rate.frequency_hz), samples))
}

/// What one look at one pod gives, from the last rounds in which something was captured; `None` without any.
pub(super) fn samples_per_tick(rounds: &[Round]) -> Option<f64> {
    let known = rounds.iter().filter(|round| round.ticks > 0.0).take(ROUNDS);
    #[allow(clippy::cast_precision_loss)]
    let (samples, ticks) = known
        .fold((0.0, 0.0), |(samples, ticks), round| (samples + round.samples as f64, ticks + round.ticks));
    (ticks > 0.0).then(|| samples / ticks)
}
