//! May this session start? Checked before anything else is done, and again by every new leader.

use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_rules::SessionLimits;
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus, Reason};

use super::load::{self, Wait};
use super::observed::{Observed, Permission, PolicyFacts, Settings};
use crate::destination;
use crate::text::advised;

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The API server has to be asked first.
    Ask,
    /// It waits for its load.
    Wait(String),
    /// The session ends here.
    End(Phase, Reason, String),
    /// It may go on.
    Go,
}

/// Checks what must hold before targets are picked; a session that has started goes on.
#[must_use]
pub fn check(
    session: &ProfileSession,
    status: &ProfileSessionStatus,
    observed: &Observed,
    settings: &Settings,
) -> Verdict {
    if status.start_time.is_some() {
        return Verdict::Go;
    }
    let failed = |reason, message| Verdict::End(Phase::Failed, reason, message);
    if session.spec.cancel {
        return Verdict::End(
            Phase::Cancelled,
            Reason::Cancelled,
            "Cancelled before the session started.".into(),
        );
    }
    if observed.earlier >= settings.session_budget && !load::is_waiting(session) {
        return failed(Reason::TooManySessions, too_many(observed.earlier, settings.session_budget));
    }
    let unchecked = observed.permission == Permission::Unchecked && needs_review(session);
    if let Permission::Denied(why) = &observed.permission {
        return failed(Reason::Forbidden, why.clone());
    }
    if unchecked && !load::is_waiting(session) {
        return Verdict::Ask;
    }
    if let Some((reason, message)) = refusal(session, &observed.policy, settings) {
        return failed(reason, message);
    }
    match wait(session, status, observed) {
        // It was allowed when it began to wait; it must be when it starts.
        Verdict::Go if unchecked => Verdict::Ask,
        verdict => verdict,
    }
}

fn too_many(live: usize, limit: usize) -> String {
    let cause = format!(
        "{live} sessions of the namespace have not ended, the limit is {limit} (chart value budgets.sessions)"
    );
    advised(cause, Reason::TooManySessions)
}

/// Why what the session asks for is refused, if it is.
fn refusal(session: &ProfileSession, policy: &PolicyFacts, settings: &Settings) -> Option<(Reason, String)> {
    let unknown = || destination::unknown(&session.spec.destinations, &settings.destinations);
    bars(session, policy)
        .or_else(|| unknown().map(|message| (Reason::DestinationUnknown, message)))
        .or_else(|| over_limit(session, policy, settings).map(|message| (Reason::LimitExceeded, message)))
}

/// Why the policy that the session names keeps it from starting, if it does.
fn bars(session: &ProfileSession, policy: &PolicyFacts) -> Option<(Reason, String)> {
    let (kind, name) =
        session.spec.policy_ref.as_ref().map_or(("", ""), |p| (p.kind.as_str(), p.name.as_str()));
    let (reason, cause) = match policy {
        PolicyFacts::Missing => (Reason::PolicyNotFound, format!("{kind} {name:?} does not exist")),
        PolicyFacts::Elsewhere => {
            let message = format!(
                "The {kind} {name:?} does not select this namespace: its spec.namespaceSelector does not \
                 match the namespace's labels."
            );
            return Some((Reason::NotSelected, message));
        }
        PolicyFacts::Found { spec, .. } if spec.suspend => {
            (Reason::PolicySuspended, format!("The policy {name:?} is suspended"))
        }
        _ => return None,
    };
    Some((reason, advised(cause, reason)))
}

/// What a user's session asks for beyond what the policy and the administrator allow, if it does.
fn over_limit(session: &ProfileSession, policy: &PolicyFacts, settings: &Settings) -> Option<String> {
    if session.spec.trigger != Trigger::OnDemand {
        return None;
    }
    let of_policy = match policy {
        PolicyFacts::Found { spec, .. } => spec.session.limits.clone(),
        _ => SessionLimits::default(),
    };
    let (longest, highest) = settings.on_demand_limits;
    let duration =
        least(of_policy.duration, longest, ["session.limits.duration", "budgets.onDemandDuration"]);
    let frequency =
        least(of_policy.frequency_hz, highest, ["session.limits.frequencyHz", "budgets.onDemandFrequencyHz"]);
    let asked = &session.spec;
    let cause = if asked.duration > duration.0 {
        format!("spec.duration is {}, at most {} is allowed by {}", asked.duration, duration.0, duration.1)
    } else if asked.frequency_hz > frequency.0 {
        let (most, by) = frequency;
        format!("spec.frequencyHz is {}, at most {most} is allowed by {by}", asked.frequency_hz)
    } else {
        return None;
    };
    Some(advised(cause, Reason::LimitExceeded))
}

/// The lower of the policy's limit and the administrator's, and which of the two it is.
fn least<T: Ord>(of_policy: Option<T>, of_admin: T, [field, value]: [&str; 2]) -> (T, String) {
    match of_policy {
        Some(limit) if limit <= of_admin => (limit, format!("{field} of the policy")),
        _ => (of_admin, format!("the administrator (chart value {value})")),
    }
}

/// Whether the load runs that the session waits for; the last check, so that nobody waits in vain for a
/// refusal.
fn wait(session: &ProfileSession, status: &ProfileSessionStatus, observed: &Observed) -> Verdict {
    match load::wait(session, status, observed) {
        Wait::Over => Verdict::Go,
        Wait::Longer(message) => Verdict::Wait(message),
        Wait::InVain(reason, message) => Verdict::End(Phase::Failed, reason, message),
    }
}

/// Whether the rights of who asked are to be checked with the API server: the operator's own sessions were
/// checked when their policy was written.
fn needs_review(session: &ProfileSession) -> bool {
    session.spec.trigger == Trigger::OnDemand
}
