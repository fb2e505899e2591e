//! May this session start? Checked before anything else is done, and again by every new leader.

use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_status::Phase;
use fleetprof_crds::{ProfileSession, ProfileSessionStatus, Reason};

use super::load::{self, Wait};
use super::observed::{Observed, Permission, PolicyFacts, Settings};
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
    if let Some((reason, message)) = bars(session, &observed.policy) {
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
