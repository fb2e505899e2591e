//! Whose pods are refused because of their agent? What the webhook injected is held against the events of those
//! who create pods: see [`Breaker`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetprof_core::inject::{Attempt, Breaker, Held};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::names;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event as Recorded;
use kube::{Api, Client};
use kube_runtime::watcher::{self, Event};
use serde_json::Value;

use crate::watched::{Guarded, events_where, interrupted};

/// The reason with which ReplicaSets, StatefulSets, DaemonSets, Jobs and those that imitate them say that a pod
/// could not be created.
const FAILED_CREATE: &str = "reason=FailedCreate";

/// What kubelets say of sidecars that they cannot start.
fn not_started() -> String {
    format!("type=Warning,involvedObject.fieldPath=spec.initContainers{{{}}}", names::SIDECAR_NAME)
}

/// What is known of refused pods. Clones are cheap and know the same.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Mutex<Breaker>>);

impl Refusals {
    /// Follows the events of the cluster, for ever. Without them every selected pod is injected, as it is where the
    /// API server does not allow the watch.
    pub async fn follow(&self, client: &Client) {
        let of_owners = events_where(Api::all(client.clone()), FAILED_CREATE, prune);
        let of_kubelets = events_where(Api::all(client.clone()), &not_started(), prune);
        tokio::join!(self.take(of_owners), self.take_images(of_kubelets));
    }

    /// Kubelets that cannot pull the agent's image.
    async fn take_images(&self, events: impl Stream<Item = watcher::Result<Event<Guarded<Recorded>>>>) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(Guarded(Ok(event))) | Event::InitApply(Guarded(Ok(event)))) => {
                    let ((namespace, _), words) = told(&event);
                    if let Some(image) = self.breaker().not_started(namespace, words, Timestamp::now()) {
                        tracing::warn!(
                            k8s.namespace.name = namespace,
                            container.image.name = image,
                            "a node cannot pull the agent's image; pods of the namespace are created without a \
                             sidecar until no node has failed for 10 minutes"
                        );
                    }
                }
                Ok(_) => {}
                Err(error) => interrupted("Event", &error),
            }
        }
    }

    async fn take(&self, events: impl Stream<Item = watcher::Result<Event<Guarded<Recorded>>>>) {
        let mut events = std::pin::pin!(events);
        let mut started = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(Guarded(Ok(event)))) => self.refused(&event),
                Ok(Event::InitApply(Guarded(Ok(event)))) if started => self.refused(&event),
                Ok(Event::InitApply(Guarded(Ok(event)))) => {
                    let (owner, words) = told(&event);
                    self.breaker().was_refused(owner, words, Timestamp::now());
                }
                Ok(Event::InitDone) => started = true,
                // What cannot be read names no owner.
                Ok(Event::Init | Event::Delete(_) | Event::Apply(_) | Event::InitApply(_)) => {}
                Err(error) => interrupted("Event", &error),
            }
        }
    }

    fn refused(&self, event: &Recorded) {
        let (owner, words) = told(event);
        let Some((namespace, workload)) = self.breaker().refused(owner, words, Timestamp::now()) else {
            return;
        };
        tracing::warn!(
            k8s.namespace.name = namespace,
            k8s.workload = %workload,
            "pods with an agent are refused; the pods of this workload start without one until it or its policy \
             changes"
        );
    }

    /// Why the pod gets no agent, where pods of its workload were refused; what is done with it is remembered.
    pub(super) fn attempt(&self, pod: (&Value, &str), agent: (&PolicyView<'_>, &str)) -> Option<Held> {
        let now = Timestamp::now();
        self.breaker().attempt(Attempt::of(pod, agent, now)?, now)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner, by namespace of the event and UID, and the API server's words. The namespace is the event's own: the UID
/// beside it may be anything.
fn told(event: &Recorded) -> ((&str, &str), &str) {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let owner = event.involved_object.uid.as_deref().unwrap_or_default();
    ((namespace, owner), event.message.as_deref().unwrap_or_default())
}

/// Takes away all but the owner and the message.
fn prune(event: &mut Recorded) {
    let Recorded { metadata, involved_object, message, .. } = std::mem::take(event);
    *event = Recorded { metadata, involved_object, message, ..Recorded::default() };
}

#[cfg(test)]
mod tests {
    use fleetprof_crds::ProfilingPolicy;
    use serde_json::json;

    use super::*;

    fn failed(uid: &str) -> Guarded<Recorded> {
        let event = json!({
            "metadata": {"namespace": "shop", "name": uid}, "reason": "FailedCreate", "message": "it is forbidden",
            "involvedObject": {"kind": "ReplicaSet", "name": uid, "uid": uid},
        });
        Guarded(Ok(serde_json::from_value(event).unwrap()))
    }

    fn attempt(refusals: &Refusals, owner: &str) -> Option<String> {
        let policy: ProfilingPolicy = super::super::tests::policy("shop", "all", json!({}));
        let owners = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]);
        let held = refusals.attempt(
            (&json!({"metadata": {"ownerReferences": owners}}), "shop"),
            (&PolicyView::from(&policy), "agent:1"),
        );
        held.map(|held| held.words)
    }

    #[tokio::test]
    async fn events_after_an_attempt_and_those_from_before_the_start_end_the_injection() {
        let refusals = Refusals::default();
        let take = |events: Vec<Event<Guarded<Recorded>>>| {
            let events = futures::stream::iter(events.into_iter().map(Ok));
            let refusals = refusals.clone();
            async move { refusals.take(events).await }
        };
        take(vec![Event::Init, Event::InitApply(failed("old")), Event::InitDone]).await;
        assert_eq!(attempt(&refusals, "old").as_deref(), Some("it is forbidden"));
        assert_eq!(attempt(&refusals, "web"), None);
        take(vec![Event::Apply(failed("other")), Event::Delete(failed("web"))]).await;
        assert_eq!(attempt(&refusals, "web"), None, "nobody refused it");
        take(vec![Event::Apply(failed("web"))]).await;
        assert_eq!(attempt(&refusals, "web").as_deref(), Some("it is forbidden"));
        assert_eq!(attempt(&refusals, "other"), None, "it failed before it was tried");
    }

    #[tokio::test]
    async fn an_image_that_a_kubelet_cannot_pull_is_left_out() {
        let refusals = Refusals::default();
        let words = "Failed to pull image \"agent:1\": not found";
        let event = json!({
            "metadata": {"namespace": "shop", "name": "e"}, "reason": "Failed", "message": words,
            "involvedObject": {"kind": "Pod", "name": "web-1", "uid": "p"},
        });
        let event = Event::Apply(Guarded(Ok(serde_json::from_value(event).unwrap())));
        assert_eq!(attempt(&refusals, "web"), None);
        refusals.take_images(futures::stream::iter([Ok(event)])).await;
        assert_eq!(attempt(&refusals, "other").as_deref(), Some(words));
    }
}
