//! What would `kubectl describe` tell? Kubernetes events, with the same reasons as the status.
//!
//! A recorder counts an event in an earlier one of the same object and reason, whatever the new one says: of
//! five namespaces that refuse a round, one would be told. So every note has a recorder of its own, as long as
//! it counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleetprof_core::hash::hash;
use fleetprof_core::view::PolicyView;
use fleetprof_crds::{Reason, names};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube_runtime::events::{Event, EventType, Recorder, Reporter};

/// An event that says the same again within this time is counted in the first: the time of the recorder.
const SAME_FOR: Duration = Duration::from_secs(360);
/// Most notes that are remembered; all are forgotten then, and each is a new event again.
const MAX_KNOWN: usize = 4_096;

/// Writes events; a failed write is logged and never stops anything.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    /// By object, reason and note, with the time of the last event.
    known: Arc<Mutex<HashMap<u64, (Instant, Recorder)>>>,
}

impl Events {
    /// Events of this replica.
    #[must_use]
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: "fleetprof-operator".into(), instance: Some(instance.to_owned()) };
        Self { client, reporter, known: Arc::default() }
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
        let recorder = self.recorder(about, reason, &note, Instant::now());
        let event = Event {
            type_,
            reason: reason.as_str().into(),
            note: Some(note),
            action: action.into(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, about).await {
            tracing::warn!(%error, k8s.object.name = about.name, "failed to write event");
        }
    }

    /// The recorder of a note about an object.
    fn recorder(&self, about: &ObjectReference, reason: Reason, note: &str, now: Instant) -> Recorder {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let (kind, namespace, name) = (text(&about.kind), text(&about.namespace), text(&about.name));
        let key = hash(&[&kind, &namespace, &name, &text(&about.uid), reason.as_str(), note]);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (told, _)| now.saturating_duration_since(*told) < SAME_FOR);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let fresh = || Recorder::new(self.client.clone(), self.reporter.clone());
        let (told, recorder) = known.entry(key).or_insert_with(|| (now, fresh()));
        *told = now;
        recorder.clone()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_note_is_counted_in_its_own_event_and_forgotten_with_time() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let events = Events::new(Client::try_from(config).unwrap(), "test");
        let about = ObjectReference { name: Some("shop".into()), ..ObjectReference::default() };
        let began = Instant::now();
        let known = || events.known.lock().unwrap().len();
        for note in ["one", "other", "one"] {
            events.recorder(&about, Reason::SessionRefused, note, began);
        }
        assert_eq!(known(), 2);
        events.recorder(&about, Reason::SessionRefused, "later", began + SAME_FOR);
        assert_eq!(known(), 1);
        for n in 0..2 * MAX_KNOWN {
            events.recorder(&about, Reason::SessionRefused, &n.to_string(), began + SAME_FOR);
        }
        assert!(known() <= MAX_KNOWN);
    }
}
