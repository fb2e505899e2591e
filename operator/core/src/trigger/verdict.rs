//! Can the triggers of a policy work as configured? The condition `TriggersReady`, present while a policy has
//! triggers.

use std::collections::HashMap;

use fleetprof_crds::{ProfilingPolicyStatus, Reason};
use jiff::Timestamp;

use super::promql::Known;
use super::{alert, promql};
use crate::conditions::{self, Truth, Wanted};
use crate::text::{advised, cut};
use crate::view::PolicyView;

/// The type of the condition.
const TYPE: &str = "TriggersReady";
/// Most bytes of its message.
const MAX_MESSAGE: usize = 1024;

/// What the administrator has set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// The alert receiver listens.
    pub receiver: bool,
    /// There is a Prometheus to ask.
    pub prometheus: bool,
}

/// Writes the condition, or takes it away from a policy without triggers.
pub fn fill(
    policy: &PolicyView,
    status: &mut ProfilingPolicyStatus,
    setup: Setup,
    rules: &alert::Rules,
    known: &HashMap<String, Known>,
    now: Timestamp,
) {
    if policy.spec.triggers.is_empty() {
        status.conditions.retain(|c| c.type_ != TYPE);
        return;
    }
    conditions::set(
        &mut status.conditions,
        TYPE,
        wanted(policy, setup, rules, known),
        policy.generation,
        now,
    );
}

fn wanted(policy: &PolicyView, setup: Setup, rules: &alert::Rules, known: &HashMap<String, Known>) -> Wanted {
    let bad = |reason, problems: &[String]| {
        Wanted::new(Truth::False, reason, cut(&problems.join(" "), MAX_MESSAGE))
    };
    let (invalid, failed): (Vec<_>, Vec<_>) =
        promql::problems(policy, known).into_iter().partition(|(_, invalid)| *invalid);
    let words = |problems: Vec<(String, bool)>| problems.into_iter().map(|(p, _)| format!("{p}."));
    let malformed: Vec<String> =
        rules.problems.iter().map(|p| format!("{p}.")).chain(words(invalid)).collect();
    if !malformed.is_empty() {
        return bad(Reason::InvalidSpec, &malformed);
    }
    if !policy.spec.triggers.alerts.is_empty() && !setup.receiver {
        let why = advised("spec.triggers.alerts: the alert receiver is disabled", Reason::AlertReceiverOff);
        return bad(Reason::AlertReceiverOff, &[why]);
    }
    if !policy.spec.triggers.prom_ql.is_empty() && !setup.prometheus {
        let why = advised("spec.triggers.promQL: no Prometheus is configured", Reason::PrometheusUnset);
        return bad(Reason::PrometheusUnset, &[why]);
    }
    if !failed.is_empty() {
        return bad(Reason::PrometheusFailed, &words(failed).collect::<Vec<_>>());
    }
    Wanted::new(Truth::True, Reason::Valid, "All triggers are active.")
}
