//! Can the triggers of a policy do what they say? The condition `TriggersReady`, there while a policy has triggers.

use fleetprof_crds::{ProfilingPolicyStatus, Reason};
use jiff::Timestamp;

use super::alert;
use crate::policy::PolicyView;
use crate::session::conditions::{self, Truth, Wanted};
use crate::text::cut;

/// The type of the condition.
const TYPE: &str = "TriggersReady";
/// Most bytes of its message.
const MAX_MESSAGE: usize = 1024;

/// What the administrator has set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// The alert receiver listens.
    pub receiver: bool,
}

/// Writes the condition, or takes it away from a policy without triggers.
pub fn fill(policy: &PolicyView, status: &mut ProfilingPolicyStatus, setup: Setup, now: Timestamp) {
    if policy.spec.triggers.is_empty() {
        status.conditions.retain(|c| c.type_ != TYPE);
        return;
    }
    conditions::set(&mut status.conditions, TYPE, wanted(policy, setup), policy.generation, now);
}

fn wanted(policy: &PolicyView, setup: Setup) -> Wanted {
    let bad = |reason, problems: &[String]| Wanted::new(Truth::False, reason, cut(&problems.join(" "), MAX_MESSAGE));
    let malformed = alert::problems(policy);
    if !malformed.is_empty() {
        return bad(Reason::InvalidSpec, &malformed.iter().map(|p| format!("{p}.")).collect::<Vec<_>>());
    }
    if !policy.spec.triggers.alerts.is_empty() && !setup.receiver {
        let why = format!("spec.triggers.alerts: the alert receiver is off; {}.", Reason::AlertReceiverOff.advice());
        return bad(Reason::AlertReceiverOff, &[why]);
    }
    Wanted::new(Truth::True, Reason::Valid, "Every trigger can fire.")
}
