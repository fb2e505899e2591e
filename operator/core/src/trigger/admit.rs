//! Which firings become sessions? Each once, and none while its workload cools down.
//!
//! The history is derived from the sessions: their trigger, source, workload and creation time. So the answer
//! is the same after a change of leader.

use std::sync::Arc;

use fleetprof_crds::session::{Target, Trigger, WorkloadRef};
use fleetprof_crds::{Duration, ProfileKind, ProfileSession, names};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::level::Rule;
use super::{Firing, rollout};
use crate::hash::short_name;
use crate::time::after;
use crate::view::PolicyView;

/// No two triggers of whatever kind start sessions of one workload within this time.
pub const GLOBAL_COOLDOWN: SignedDuration = SignedDuration::from_secs(120);

/// What [`admit`] decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admitted {
    /// The sessions to create.
    pub create: Vec<ProfileSession>,
    /// Firings that start nothing.
    pub held: Vec<Held>,
}

/// A firing that starts nothing, since its workload was profiled too short a time ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The firing.
    pub firing: Firing,
    /// Name of the session that it comes too soon after.
    pub after: String,
    /// When the cooldown is over.
    pub until: Timestamp,
}

/// Which of `firings` become sessions, in their order. `sessions` are those that name the policy.
#[must_use]
pub fn admit(
    policy: &PolicyView,
    firings: Vec<Firing>,
    sessions: &[Arc<ProfileSession>],
    now: Timestamp,
) -> Admitted {
    let mut past: Vec<Arc<ProfileSession>> =
        sessions.iter().filter(|s| s.spec.trigger.is_event()).cloned().collect();
    let mut admitted = Admitted::default();
    for firing in firings {
        let answer = answer(&firing, &past, now);
        let session = session(policy, &firing, answer.as_deref());
        if past.iter().any(|s| same_object(s, &session)) {
            continue;
        }
        match cooling(&firing, &past, now) {
            // It goes on, and was answered: nobody needs to be told.
            Some((after, _)) if Some(&after) == answer.as_ref() => {}
            Some((after, until)) => admitted.held.push(Held { firing, after, until }),
            None => {
                let mut known = session.clone();
                known.metadata.creation_timestamp = Some(Time(now));
                past.push(Arc::new(known));
                admitted.create.push(session);
            }
        }
    }
    admitted
}

fn same_object(a: &ProfileSession, b: &ProfileSession) -> bool {
    a.metadata.name == b.metadata.name && a.metadata.namespace == b.metadata.namespace
}

/// Name of the last session that a firing which goes on has started: its source's last one of the workload
/// since then. A firing that comes again is named after it, so that whoever leads gives it the same name.
fn answer(firing: &Firing, past: &[Arc<ProfileSession>], now: Timestamp) -> Option<String> {
    let since = firing.ongoing?;
    let answers = of_workload(firing, past).filter(|s| same_source(s, firing) && created(s, now) >= since);
    answers.max_by_key(|s| (created(s, now), s.metadata.name.clone()))?.metadata.name.clone()
}

fn of_workload<'a>(
    firing: &'a Firing,
    past: &'a [Arc<ProfileSession>],
) -> impl Iterator<Item = &'a Arc<ProfileSession>> {
    let workload = firing.workload.to_string();
    past.iter().filter(move |s| {
        s.metadata.namespace.as_deref() == Some(&firing.namespace)
            && annotation(s, names::WORKLOAD_ANNOTATION) == Some(&workload)
    })
}

fn same_source(session: &ProfileSession, firing: &Firing) -> bool {
    annotation(session, names::SOURCE_ANNOTATION) == Some(&firing.source)
}

/// The session that keeps a firing waiting longest, and until when.
fn cooling(firing: &Firing, past: &[Arc<ProfileSession>], now: Timestamp) -> Option<(String, Timestamp)> {
    let until = |s: &Arc<ProfileSession>| {
        let wait = if same_source(s, firing) {
            firing.cooldown.as_signed().max(GLOBAL_COOLDOWN)
        } else {
            GLOBAL_COOLDOWN
        };
        after(created(s, now), wait)
    };
    let longest = of_workload(firing, past)
        .map(|s| (s.metadata.name.clone().unwrap_or_default(), until(s)))
        .max_by_key(|(_, until)| *until);
    longest.filter(|(_, until)| now < *until)
}

fn annotation<'a>(session: &'a ProfileSession, key: &str) -> Option<&'a str> {
    session.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn created(session: &ProfileSession, now: Timestamp) -> Timestamp {
    session.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0)
}

/// Whether a session is still needed to know when its workload may be profiled again. Asked before history is
/// pruned.
#[must_use]
pub fn still_counts(policy: &PolicyView, session: &ProfileSession, now: Timestamp) -> bool {
    session.spec.trigger.is_event() && now < after(created(session, now), longest_cooldown(policy))
}

fn longest_cooldown(policy: &PolicyView) -> SignedDuration {
    let triggers = &policy.spec.triggers;
    let levels = Rule::all(triggers).into_iter().map(|rule| rule.cooldown);
    let cooldowns = levels
        .chain(triggers.alerts.iter().map(|t| t.cooldown))
        .chain(triggers.prom_ql.iter().map(|t| t.cooldown))
        .map(Duration::as_signed);
    let rollout = triggers.rollout.iter().map(rollout::new_for);
    cooldowns.chain(rollout).max().unwrap_or(GLOBAL_COOLDOWN).max(GLOBAL_COOLDOWN)
}

/// The session of a firing. Its name is made of what fired, and for one that goes on of the session that it
/// started before, so that the same firing never starts two.
fn session(policy: &PolicyView, firing: &Firing, before: Option<&str>) -> ProfileSession {
    let workload = firing.workload.to_string();
    let trigger = firing.trigger;
    let fired = [policy.kind.as_str(), &firing.namespace, &workload, &firing.source, &firing.key];
    let short = short_name(&fired.into_iter().chain(before).collect::<Vec<_>>());
    let name = format!("{}-{}-{short}", policy.name, trigger.as_str().to_lowercase());
    let mut session = policy.draft(&firing.namespace, name, trigger);
    let text = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    session.metadata.annotations = Some(
        [text(names::WORKLOAD_ANNOTATION, &workload), text(names::SOURCE_ANNOTATION, &firing.source)].into(),
    );
    if firing.trigger == Trigger::Rollout {
        session
            .metadata
            .labels
            .get_or_insert_default()
            .insert(names::REVISION_LABEL.into(), firing.key.clone());
    }
    let spec = &mut session.spec;
    spec.cause = crate::text::cut(&firing.cause, names::MAX_CAUSE);
    spec.duration = firing.duration;
    // Gone before its cooldown is over, or while its revision is new, it would be forgotten that the workload
    // was profiled.
    spec.ttl = spec.ttl.max(firing.cooldown).max(while_new(policy, trigger));
    spec.labels.clone_from(&firing.labels);
    spec.compare.clone_from(&firing.compare);
    if firing.compare.is_some() && !spec.profiles.contains(&ProfileKind::Cpu) {
        spec.profiles.push(ProfileKind::Cpu);
    }
    spec.target = Some(target(firing));
    session
}

fn while_new(policy: &PolicyView, trigger: Trigger) -> Duration {
    let rule = policy.spec.triggers.rollout.as_ref().filter(|_| trigger == Trigger::Rollout);
    rule.map_or(Duration::default(), |rule| {
        Duration::from_secs(u32::try_from(rollout::new_for(rule).as_secs()).unwrap_or(u32::MAX))
    })
}

fn target(firing: &Firing) -> Target {
    if firing.pods.is_empty() {
        let workload = WorkloadRef { kind: firing.workload.kind.clone(), name: firing.workload.name.clone() };
        return Target { workload: Some(workload), ..Target::default() };
    }
    Target { pods: Some(firing.pods.iter().take(names::MAX_TARGETS).cloned().collect()), ..Target::default() }
}
