//! Can the triggers of a policy work as configured? The condition `TriggersReady`, present while a policy has
//! triggers.

use std::collections::{BTreeMap, HashMap};

use fleetprof_crds::{ProfilingPolicyStatus, Reason};
use jiff::Timestamp;

use super::level::{self, Measure};
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
    levels: &BTreeMap<Measure, level::Known>,
    now: Timestamp,
) {
    if policy.spec.triggers.is_empty() {
        status.conditions.retain(|c| c.type_ != TYPE);
        return;
    }
    conditions::set(
        &mut status.conditions,
        TYPE,
        wanted(policy, setup, rules, known, levels),
        policy.generation,
        now,
    );
}

fn wanted(
    policy: &PolicyView,
    setup: Setup,
    rules: &alert::Rules,
    known: &HashMap<String, Known>,
    levels: &BTreeMap<Measure, level::Known>,
) -> Wanted {
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
    let (nowhere, somewhere) = unmeasured(levels);
    if !nowhere.is_empty() {
        return bad(Reason::SignalUnavailable, &nowhere);
    }
    let mut words = vec!["All triggers are active.".to_owned()];
    words.extend(somewhere);
    Wanted::new(Truth::True, Reason::Valid, cut(&words.join(" "), MAX_MESSAGE))
}

/// What is said of signals that are measured nowhere, and of those that some containers lack.
fn unmeasured(levels: &BTreeMap<Measure, level::Known>) -> (Vec<String>, Vec<String>) {
    let lacking = levels.iter().filter(|(measure, known)| measure.is_signal() && known.lacking > 0);
    let (nowhere, somewhere): (Vec<_>, Vec<_>) = lacking.partition(|(_, known)| known.measured == 0);
    let words = |(measure, known): (&Measure, &level::Known)| {
        let (source, needs, all) = (measure.source(), measure.needs(), known.lacking + known.measured);
        format!("spec.triggers.{source}: not measured in {} of {all} containers: {needs}.", known.lacking)
    };
    (nowhere.into_iter().map(words).collect(), somewhere.into_iter().map(words).collect())
}
