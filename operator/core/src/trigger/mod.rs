//! Which triggers of a policy fire now, and which of these firings becomes a session?
//!
//! ```text
//! heartbeats ─► level (window, n of m) ───────┐
//! alerts ──────► alert (matchers, labels) ───┤
//! Prometheus ──► promql (series, for) ────────┤
//! pods ────────► rollout (new revisions) ────┼─► Firing ─► admit (once, cooldowns) ─► ProfileSession
//!                                            │                  └─► Held: reported once
//! ```
//! When a workload was profiled last is derived from the sessions themselves, so that a new leader decides as
//! the previous one would have. Only how long a threshold has been exceeded is kept in memory; a new leader
//! finds that out within one window.

pub mod admit;
pub mod alert;
pub mod answers;
mod decode;
pub mod known_alerts;
pub mod level;
pub mod matcher;
mod measure;
pub mod place;
pub mod promql;
pub mod questions;
pub mod reach;
pub mod regression;
pub mod rollout;
mod stable;
mod together;
pub mod verdict;

use std::collections::BTreeMap;

use fleetprof_crds::Duration;
use fleetprof_crds::compare::SessionCompare;
use fleetprof_crds::session::Trigger;
use jiff::Timestamp;

pub use admit::{Admitted, Held, admit};
pub use level::{Heard, Levels};

use crate::pod::Workload;
use crate::view::PolicyView;

/// How many pods a firing captures at most.
fn most_pods(policy: &PolicyView) -> usize {
    usize::try_from(policy.spec.sampling.replicas_per_workload).unwrap_or(1).max(1)
}

/// A trigger found what it looks for on one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// Kind of the trigger.
    pub trigger: Trigger,
    /// Which trigger of the policy it is, such as `cpu`: cooldowns are counted for each.
    pub source: String,
    /// Namespace of the workload.
    pub namespace: String,
    /// The workload.
    pub workload: Workload,
    /// The pods that it was found on, by name; empty for the workload as a whole.
    pub pods: Vec<String>,
    /// What crossed which line, in a sentence.
    pub cause: String,
    /// Tells this firing from others of the same source and workload: the same key never starts a second
    /// session.
    pub key: String,
    /// Since when it has been so, for what fires again after each cooldown while it goes on; `None` for what
    /// fires once.
    pub ongoing: Option<Timestamp>,
    /// How long to capture.
    pub duration: Duration,
    /// For how long this source starts no other session of the workload.
    pub cooldown: Duration,
    /// The comparison that the session is for.
    pub compare: Option<SessionCompare>,
    /// Labels of the profile.
    pub labels: BTreeMap<String, String>,
}
