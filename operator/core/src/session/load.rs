//! Is the load running that a session waits for?
//!
//! ```text
//! Absent ─► Expected ─► Runs ─► Ended        (for pods found by labels the end is Absent again)
//! ```
//! The pods of a Job show that it runs; only the Job itself shows that no more will come.

use fleetprof_crds::load::StartWhen;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus, Reason};
use jiff::Timestamp;

use super::observed::{JobFacts, Observed};
use crate::pod::PodFacts;
use crate::selector;
use crate::text::advised;
use crate::time::after;

/// Where a load stands, with the reason as a part of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// A pod of it is running and ready: a generator that loads its data first has a probe for that.
    Runs,
    /// It is there and will run.
    Expected(String),
    /// Nothing of it is there now.
    Absent(String),
    /// It will not run any more; the text says why, as in `has completed`.
    Ended(String),
}

/// What to do with a session that may have to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It need not wait, or not any more.
    Over,
    /// It waits; the sentence says for what and until when.
    Longer(String),
    /// It waits in vain.
    InVain(Reason, String),
}

/// Where the load of `start` stands.
#[must_use]
pub fn load(start: &StartWhen, observed: &Observed) -> Load {
    let pods: Vec<&PodFacts> =
        observed.pods.iter().map(|p| &**p).filter(|p| !p.ending && is_part(start, p)).collect();
    if pods.iter().any(|p| p.ready) {
        return Load::Runs;
    }
    let unready =
        pods.iter().map(|p| p.name.as_str()).min().map(|name| format!("its pod {name} is not ready yet"));
    match (&start.job_ref, &observed.job) {
        (Some(_), JobFacts::Ended(how)) => Load::Ended(how.clone()),
        (Some(_), JobFacts::Missing) => Load::Absent("the Job does not exist".into()),
        (Some(_), JobFacts::Unlisted) => Load::Expected(
            "none of its pods is ready, and the operator has not been able to list Jobs; if this lasts, \
             upgrade the chart, whose role allows it"
                .into(),
        ),
        (Some(_), JobFacts::Suspended) => Load::Expected("the Job is suspended".into()),
        (Some(_), JobFacts::Active) => {
            Load::Expected(unready.unwrap_or_else(|| "the Job has no pod yet".into()))
        }
        (None, _) => unready.map_or_else(|| Load::Absent("there is no matching pod".into()), Load::Expected),
    }
}

/// Whether `pod` is a part of the load.
#[must_use]
pub fn is_part(start: &StartWhen, pod: &PodFacts) -> bool {
    match (&start.job_ref, &start.pod_selector) {
        (Some(job), _) => pod.job() == Some(job.name.as_str()),
        (None, Some(selector)) => selector::selects(selector, &pod.labels),
        (None, None) => false,
    }
}

/// What `session` still waits for, whether it said so already or not: `None` once it has started or ended.
#[must_use]
pub fn awaited(session: &ProfileSession) -> Option<&StartWhen> {
    let over = |status: &ProfileSessionStatus| status.start_time.is_some() || status.phase.is_terminal();
    session.spec.start_when.as_ref().filter(|_| !session.status.as_ref().is_some_and(over))
}

/// Whether `session` waits for a load that `pod` is a part of.
#[must_use]
pub fn is_awaited(session: &ProfileSession, pod: &PodFacts) -> bool {
    awaited(session).is_some_and(|start| is_part(start, pod))
}

/// Whether `session` says that it waits for its load.
#[must_use]
pub fn is_waiting(session: &ProfileSession) -> bool {
    session
        .status
        .as_ref()
        .is_some_and(|s| s.reason == Some(Reason::WaitingForLoad) && !s.phase.is_terminal())
}

/// Whether `session`, which has not started, waits for its load. The deadline counts from its creation.
#[must_use]
pub fn wait(session: &ProfileSession, status: &ProfileSessionStatus, observed: &Observed) -> Wait {
    let Some(start) = &session.spec.start_when else { return Wait::Over };
    let what = describe(start);
    let until = until(session, status, start, observed.now);
    match load(start, observed) {
        Load::Runs => Wait::Over,
        Load::Ended(how) => {
            Wait::InVain(Reason::LoadEnded, advised(format!("The load ({what}) {how}"), Reason::LoadEnded))
        }
        Load::Expected(why) | Load::Absent(why) if observed.now >= until => Wait::InVain(
            Reason::LoadNotStarted,
            advised(
                format!("The load ({what}) was not running within {}: {why}", start.deadline),
                Reason::LoadNotStarted,
            ),
        ),
        Load::Expected(why) | Load::Absent(why) => {
            Wait::Longer(format!("Waiting until {until} for the load ({what}): {why}."))
        }
    }
}

/// When `session` gives the load up; `None` once it has started, and where it never waits.
#[must_use]
pub fn deadline(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    now: Timestamp,
) -> Option<Timestamp> {
    session
        .spec
        .start_when
        .as_ref()
        .filter(|_| status.start_time.is_none())
        .map(|start| until(session, status, start, now))
}

/// Counted from the creation of the session, or from when it began to wait where that lies before it: the
/// clock of the API server may be ahead.
fn until(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    start: &StartWhen,
    now: Timestamp,
) -> Timestamp {
    let waits = status.conditions.iter().find(|c| c.type_ == "Complete").map(|c| c.last_transition_time.0);
    let created = session.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let begun = waits.into_iter().chain(created).min().unwrap_or(now);
    after(begun, start.deadline.as_signed())
}

/// The load in words, such as `the Job load` or `pods with app=load`.
#[must_use]
pub fn describe(start: &StartWhen) -> String {
    match (&start.job_ref, &start.pod_selector) {
        (Some(job), _) => format!("the Job {}", job.name),
        (None, Some(selector)) => match selector.match_labels.as_ref().filter(|l| !l.is_empty()) {
            Some(labels) => {
                let pairs: Vec<String> = labels.iter().take(4).map(|(k, v)| format!("{k}={v}")).collect();
                format!("pods with {}", pairs.join(","))
            }
            None => "pods that match spec.startWhen.podSelector".into(),
        },
        (None, None) => "nothing".into(),
    }
}
