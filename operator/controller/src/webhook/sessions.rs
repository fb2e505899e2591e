//! Who asked for a session? Written from the request's user, whatever the session says; only the operator
//! speaks for others.

use fleetprof_core::inject::PatchOp;
use fleetprof_crds::session::Requester;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::metrics::Answer;
use super::review::{Reply, Request};
use super::router::WebhookState;

const SESSIONS: &str = "profilesessions";

/// Groups and bytes that the schema of `spec.requestedBy` takes; a user with more could create no session at
/// all.
const MAX_GROUPS: usize = 128;
const MAX_NAME: usize = 1024;

/// Answers one request.
pub(super) fn review<'a>(state: &WebhookState, request: &'a Request<'_>) -> (Reply<'a>, Answer) {
    let answer = |outcome| Answer { webhook: SESSIONS, outcome, reason: "" };
    let Some(user) = request.user() else {
        tracing::warn!(k8s.namespace.name = %request.namespace, "request has no user; spec.requestedBy was \
                                                                 not set");
        return (
            Reply::warned(&request.uid, "the request has no user, so spec.requestedBy was not set"),
            answer("malformed"),
        );
    };
    if user.username == *state.own_user {
        return (Reply::patched(&request.uid, &[]), answer("kept"));
    }
    if !has_spec(request.object) {
        return (
            Reply::warned(&request.uid, "the session has no spec, so spec.requestedBy was not set"),
            answer("malformed"),
        );
    }
    let stamp = PatchOp::add(&["spec", "requestedBy"], json!(bounded(user)));
    (Reply::patched(&request.uid, &[stamp]), answer("stamped"))
}

/// A patch of a spec that is not an object would fail the whole request.
fn has_spec(session: Option<&RawValue>) -> bool {
    #[derive(Deserialize)]
    struct Session {
        #[serde(rename = "spec")]
        _spec: serde_json::Map<String, serde_json::Value>,
    }
    session.is_some_and(|s| serde_json::from_str::<Session>(s.get()).is_ok())
}

/// The groups in their order as far as there is room; a name that does not fit is left out as a whole, never
/// cut.
fn bounded(user: Requester) -> Requester {
    let groups = user.groups.into_iter().filter(|g| g.chars().count() <= MAX_NAME).take(MAX_GROUPS).collect();
    // Too long a name stays too long: the schema refuses the session, instead of the name of somebody else.
    let username = user.username.chars().take(MAX_NAME + 1).collect();
    Requester { username, groups }
}
