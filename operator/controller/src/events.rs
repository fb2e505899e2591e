//! What would `kubectl describe` tell? Kubernetes events, with the same reasons as the status.

use fleetprof_core::view::PolicyView;
use fleetprof_crds::{Reason, names};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube_runtime::events::{Event, EventType, Recorder, Reporter};

/// Writes events; a failed write is logged and never stops anything.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// A recorder for this replica.
    #[must_use]
    pub fn new(client: Client, instance: &str) -> Self {
        Self(Recorder::new(
            client,
            Reporter { controller: "fleetprof-operator".into(), instance: Some(instance.to_owned()) },
        ))
    }

    /// Something went as wanted.
    pub async fn normal(&self, about: &ObjectReference, reason: Reason, action: &str, note: String) {
        self.publish(about, EventType::Normal, reason, action, note).await;
    }

    /// Something needs a look.
    pub async fn warning(&self, about: &ObjectReference, reason: Reason, action: &str, note: String) {
        self.publish(about, EventType::Warning, reason, action, note).await;
    }

    async fn publish(
        &self,
        about: &ObjectReference,
        type_: EventType,
        reason: Reason,
        action: &str,
        mut note: String,
    ) {
        // The API takes notes of up to 1 KiB.
        note.truncate((0..=1000).rev().find(|i| note.is_char_boundary(*i)).unwrap_or(0));
        let event = Event {
            type_,
            reason: reason.as_str().into(),
            note: Some(note),
            action: action.into(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, about).await {
            tracing::warn!(%error, k8s.object.name = about.name, "failed to write event");
        }
    }
}

/// Whether the API server will not have what it was asked to write, now or a moment later: a full quota, a
/// namespace that is being deleted, a rule. Anything else, such as no answer, is worth another try at once.
#[must_use]
pub fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(answer) if (400..500).contains(&answer.code) && !matches!(answer.code, 401 | 408 | 409 | 429))
}

/// A policy as events name it.
#[must_use]
pub fn policy(policy: &PolicyView<'_>) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{}/{}", names::GROUP, names::VERSION)),
        kind: Some(policy.kind.as_str().into()),
        namespace: policy.namespace.map(str::to_owned),
        name: Some(policy.name.to_owned()),
        uid: Some(policy.uid.to_owned()),
        ..ObjectReference::default()
    }
}
