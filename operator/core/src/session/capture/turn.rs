//! Does a target have a place in the budgets, must it ask for one, or does it wait, and until when?

use fleetprof_crds::budget::Budget;
use fleetprof_crds::session::{PolicyKind, Trigger};
use fleetprof_crds::session_status::{TargetPhase, TargetStatus};
use fleetprof_crds::{ProfileSession, Reason};
use jiff::{SignedDuration, Timestamp};

use super::super::observed::{PolicyFacts, Settings};
use super::{Context, explain, finish};
use crate::budget::{Asker, Claim, Limits, Place, per_node};
use crate::schedule::Plan;
use crate::text::advised;
use crate::time::{after, before};

/// The longest duration of a capture, as the schema allows it: so long a person may have to wait for another
/// person's capture of the same container.
const LONGEST_CAPTURE: SignedDuration = SignedDuration::from_mins(6);

/// Longest time that a target of a round waits for a slot: a round of the night must not run at noon.
const LONGEST_ROUND: SignedDuration = SignedDuration::from_hours(1);

/// Whether it is the target's turn.
pub(super) enum Turn {
    /// It has its place.
    Go,
    /// It waits, or has given up.
    Wait,
    /// The ledger must be asked.
    Ask(Box<Claim>),
}

pub(super) fn turn(target: &mut TargetStatus, context: &Context) -> Turn {
    if target.phase != TargetPhase::Pending {
        return Turn::Go;
    }
    let busy = match context.observed.places.get(&target.capture) {
        None => return Turn::Ask(Box::new(context.claim(target))),
        // The place has to be on record before anything is done with it.
        Some(Place::Granted) if context.observed.until_record.is_some() => return Turn::Wait,
        Some(Place::Granted) => return Turn::Go,
        Some(Place::Busy(busy)) => busy,
    };
    let (now, until) = (context.observed.now, context.slot_before(busy.reason));
    if now > until {
        let message = advised(&busy.message, busy.reason);
        finish(target, TargetPhase::Skipped, busy.reason, message, now);
    } else {
        let message =
            format!("{}; waiting for a slot until {}.", busy.message, until.strftime("%H:%M:%S UTC"));
        explain(target, busy.reason, message);
    }
    Turn::Wait
}

impl Context<'_> {
    /// Until when a target waits for a slot, for the reason that it has none.
    ///
    /// A round waits until the next one is near, at most an hour: with few slots it takes longer, but is
    /// captured as a whole. What a trigger saw is over soon.
    fn slot_before(&self, reason: Reason) -> Timestamp {
        let spec = &self.session.spec;
        let deadline = after(self.started, spec.start_deadline.as_signed());
        match spec.trigger {
            Trigger::OnDemand if reason == Reason::ContainerBusy => after(deadline, LONGEST_CAPTURE),
            Trigger::Schedule => self.round_ends().map_or(deadline, |end| end.max(deadline)),
            _ => deadline,
        }
    }

    /// When the last capture of a round must begin: so that it ends before the next one, and within an hour.
    /// `None` without a policy, or without a next round.
    fn round_ends(&self) -> Option<Timestamp> {
        let PolicyFacts::Found { uid, spec, .. } = &self.observed.policy else { return None };
        let next = Plan::read(uid, &spec.schedule).ok()?.ticks(self.started).1?;
        let session = &self.session.spec;
        let last = before(before(next.at, session.duration.as_signed()), session.start_deadline.as_signed());
        Some(last.min(after(self.started, LONGEST_ROUND)))
    }

    /// The place that the target's capture takes.
    pub(super) fn claim(&self, target: &TargetStatus) -> Claim {
        let cpu = self.observed.node_cpu.get(&target.node).copied();
        claim(target, self.session, &self.observed.policy, (self.settings, cpu))
    }
}

/// The place that the target's capture takes; `cpu` is what is allocatable on its node, in thousandths of a
/// core.
#[must_use]
pub fn claim(
    target: &TargetStatus,
    session: &ProfileSession,
    policy: &PolicyFacts,
    (settings, cpu): (&Settings, Option<i64>),
) -> Claim {
    let (uid, budget) = match policy {
        PolicyFacts::Found { uid, spec, .. } => (uid.clone(), spec.budget.clone()),
        _ => (String::new(), Budget { max_concurrent: i32::MAX, ..Budget::default() }),
    };
    let limit = |n: i32| usize::try_from(n).unwrap_or(1);
    Claim {
        capture: target.capture.clone(),
        session: session.metadata.uid.clone().unwrap_or_default(),
        name: session.metadata.name.clone().unwrap_or_default(),
        namespace: session.metadata.namespace.clone().unwrap_or_default(),
        policy: uid,
        node: target.node.clone(),
        container: format!("{}/{}", target.pod_uid, target.container),
        asker: asker(session),
        priority: budget.priority,
        since: session.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0),
        limits: Limits {
            node: settings.node_budget.unwrap_or_else(|| per_node(cpu)),
            policy_on_node: budget.max_concurrent_per_node.map_or(usize::MAX, limit),
            namespace: settings.namespace_budget,
            policy: limit(budget.max_concurrent),
            fleet: settings.fleet_budget,
            people: settings.on_demand_budget,
        },
    }
}

fn asker(session: &ProfileSession) -> Asker {
    let policy = session.spec.policy_ref.as_ref().map(|policy| policy.kind);
    match (session.spec.trigger, policy) {
        (Trigger::OnDemand, _) => Asker::Person,
        (_, Some(PolicyKind::ClusterProfilingPolicy)) => Asker::ClusterPolicy,
        _ => Asker::Policy,
    }
}
