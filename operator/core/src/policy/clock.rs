//! What if times in the status of a policy lie in the future? The clock was set back, or a previous leader's
//! clock was ahead. Such times count as now, and a condition reports it for an hour.

use fleetprof_crds::ProfilingPolicyStatus;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::conditions::{self, CLOCK};
use crate::time::after;
use crate::view::PolicyView;

/// How long the condition is shown.
const TOLD: SignedDuration = SignedDuration::from_hours(1);
/// So far the clock of the API server may be ahead.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Lets what lies in the future count as now, says so in a condition, and takes that away after an hour.
pub(super) fn tell(policy: &PolicyView, status: &mut ProfilingPolicyStatus, now: Timestamp) {
    let wanted = no_later_than(status, now).and_then(|latest| conditions::clock_went_back(latest, now));
    let over = |told: &Time| after(told.0, TOLD) <= now || told.0 > now;
    match wanted {
        Some(wanted) => {
            conditions::set(&mut status.conditions, CLOCK, wanted, policy.generation, now);
        }
        None => status.conditions.retain(|c| c.type_ != CLOCK || !over(&c.last_transition_time)),
    }
}

fn no_later_than(status: &mut ProfilingPolicyStatus, now: Timestamp) -> Option<Timestamp> {
    let ProfilingPolicyStatus { last_session_time, last_missed_time, last_idle_time, outcomes_until, .. } =
        status;
    let facts = [last_session_time, last_missed_time, last_idle_time, outcomes_until];
    let ahead: Vec<&mut Time> = facts.into_iter().flatten().filter(|time| time.0 > now).collect();
    let latest = ahead.iter().map(|time| time.0).max();
    ahead.into_iter().for_each(|time| *time = Time(now));
    latest
}

/// Since when the policy has rounds; always, where its creation lies in the future.
pub(super) fn created(policy: &PolicyView, now: Timestamp) -> Timestamp {
    policy.created.filter(|created| *created <= after(now, SKEW)).unwrap_or(Timestamp::MIN)
}
