//! What is told of the end of a session? A CloudEvent (version 1.0, JSON), made of the status alone: no messages,
//! which may quote a process, no users, no labels, nothing of the environment.

use fleetprof_crds::ProfileSession;
use fleetprof_crds::compare::Comparison;
use fleetprof_crds::session::PolicyRef;
use fleetprof_crds::session_status::{Counts, Link, ProfileSessionStatus};
use jiff::Timestamp;
use serde::Serialize;

use super::links::encoded;

/// The type of the event. A change that breaks receivers gets another one.
pub const TYPE: &str = "dev.fleetprof.session.ended";

/// What follows the uid of the session in the id.
const ENDED: &str = "-ended";

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The same each time that this end is told.
    pub id: String,
    /// The event as JSON.
    pub body: String,
}

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    type_: &'static str,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    datacontenttype: &'static str,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    cluster: &'a str,
    namespace: &'a str,
    session: &'a str,
    uid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    app: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a PolicyRef>,
    trigger: &'static str,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<Timestamp>,
    counts: Counts,
    samples: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a Comparison>,
    links: &'a [Link],
}

/// The event of a session that ended, in the cluster of that name.
#[must_use]
pub fn of(session: &ProfileSession, status: &ProfileSessionStatus, cluster: &str) -> Notification {
    let text = |part: &Option<String>| part.as_deref().unwrap_or_default().to_owned();
    let meta = &session.metadata;
    let (namespace, name, uid) = (text(&meta.namespace), text(&meta.name), text(&meta.uid));
    let id = format!("{uid}{ENDED}");
    let end_time = status.end_time.as_ref().map(|time| time.0);
    let event = Event {
        specversion: "1.0",
        id: &id,
        source: format!("/fleetprof/clusters/{}", encoded(cluster)),
        type_: TYPE,
        subject: format!("namespaces/{namespace}/profilesessions/{name}"),
        time: end_time,
        datacontenttype: "application/json",
        data: Data {
            cluster,
            namespace: &namespace,
            session: &name,
            uid: &uid,
            app: &status.app,
            policy: session.spec.policy_ref.as_ref(),
            trigger: session.spec.trigger.as_str(),
            phase: status.phase.as_str(),
            reason: status.reason.map(|reason| reason.as_str()),
            start_time: status.start_time.as_ref().map(|time| time.0),
            end_time,
            counts: status.counts,
            samples: status.samples,
            verdict: status.comparison.as_ref(),
            links: &status.links,
        },
    };
    // Maps of strings and numbers are always JSON.
    let body = serde_json::to_string(&event).unwrap_or_default();
    Notification { id, body }
}

/// The uid of the session that an id belongs to; `None` where it belongs to none.
#[must_use]
pub fn session_of(id: &str) -> Option<&str> {
    id.strip_suffix(ENDED)
}
