//! How many ended sessions are kept, and for how long?
//!
//! Policies limit the history of the sessions that they start ([`crate::policy::rounds`]). The limit here is
//! for those that people start, with a policy or without: the newest of each namespace are kept.
//! A session that somebody wants kept ([`is_kept`]) counts towards none of these, and has no ttl.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use fleetprof_crds::session::Trigger;
use fleetprof_crds::{Duration, ProfileSession, ProfileSessionStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::repeat;
use crate::conditions::{self, Truth, Wanted};
use crate::storage::is_kept;

/// The condition of a session that is kept.
const KEPT: &str = "Kept";
/// The condition of a session that is kept for less than its ttl.
const TTL_LIMITED: &str = "TtlLimited";

/// The ended sessions that people started beyond the newest `keep` of their namespace. Sessions that repeat
/// another one go with it, so it stays until its last repeat is over, and while one of them is kept.
#[must_use]
pub fn over(sessions: &[Arc<ProfileSession>], keep: usize) -> Vec<Arc<ProfileSession>> {
    let mut ended: BTreeMap<&str, Vec<(Timestamp, &Arc<ProfileSession>)>> = BTreeMap::new();
    let kept = sessions.iter().filter(|session| is_kept(&session.metadata));
    let roots: HashSet<&str> = kept.filter_map(|s| Some(repeat::root(s)?.uid.as_str())).collect();
    let is_root =
        |session: &ProfileSession| session.metadata.uid.as_deref().is_some_and(|uid| roots.contains(uid));
    for session in sessions.iter().filter(|session| !is_root(session)) {
        if let Some(at) = ended_at(session) {
            let namespace = session.metadata.namespace.as_deref().unwrap_or_default();
            ended.entry(namespace).or_default().push((at, session));
        }
    }
    let oldest = |mut sessions: Vec<(Timestamp, &Arc<ProfileSession>)>| {
        sessions.sort_by_key(|(at, session)| (Reverse(*at), session.metadata.name.clone()));
        sessions.into_iter().skip(keep).map(|(_, session)| Arc::clone(session)).collect::<Vec<_>>()
    };
    ended.into_values().flat_map(oldest).collect()
}

/// When a session that counts ended.
fn ended_at(session: &ProfileSession) -> Option<Timestamp> {
    let status = session.status.as_ref().filter(|status| status.phase.is_terminal())?;
    let counts = session.spec.trigger == Trigger::OnDemand
        && !is_kept(&session.metadata)
        && session.metadata.deletion_timestamp.is_none()
        && repeat::root(session).is_none()
        && !repeat::is_open(session, status);
    let of = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    let last = status.repeat.as_ref().and_then(|series| of(&series.end_time));
    counts.then(|| last.max(of(&status.end_time))).flatten()
}

/// Whether the session stays whatever its ttl: it is kept, or one of `follow_ups`, which are deleted with it.
#[must_use]
pub fn stays(session: &ProfileSession, follow_ups: &[Arc<ProfileSession>]) -> bool {
    is_kept(&session.metadata) || follow_ups.iter().any(|session| is_kept(&session.metadata))
}

/// Says in the status that the session stays whatever its ttl, or is deleted before that is over.
pub fn tell_ttl(
    session: &ProfileSession,
    status: &mut ProfileSessionStatus,
    (stays, max_ttl): (bool, Duration),
    now: Timestamp,
) {
    if stays {
        status.conditions.retain(|condition| condition.type_ != TTL_LIMITED);
        let message = "The session is not deleted until the annotation fleetprof.dev/keep is removed from it and \
                       from the sessions that repeat it. Profiles of a session with the annotation count towards no \
                       quota; if the results volume fills up, they are the last of their namespace to be deleted.";
        let wanted = Wanted::new(Truth::True, Reason::Kept, message);
        conditions::set(&mut status.conditions, KEPT, wanted, session.metadata.generation, now);
        return;
    }
    status.conditions.retain(|condition| condition.type_ != KEPT);
    if session.spec.ttl <= max_ttl {
        return;
    }
    let message = format!(
        "The session and its profiles are deleted {max_ttl} after its end instead of {}: the administrator's \
         maximum is {max_ttl}.",
        session.spec.ttl
    );
    let wanted = Wanted::new(Truth::True, Reason::TtlLimited, message);
    conditions::set(&mut status.conditions, TTL_LIMITED, wanted, session.metadata.generation, now);
}
