//! Whose pods are refused because of their agent, or do not start? What the webhook injected is held against the
//! events of those who create pods, and of those who run them: see [`Breaker`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetprof_core::inject::{Attempt, Breaker, Held, LeftOut, Said};
use fleetprof_core::text::cut;
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
/// The reason with which kubelets say that a container has started.
const STARTED: &str = "Started";
/// Most bytes of a name in the log.
const NAME: usize = 253;

/// What kubelets say of sidecars. That they have started is wanted too: it tells a crash from an agent that cannot work.
fn of_sidecars() -> String {
    format!("involvedObject.fieldPath=spec.initContainers{{{}}}", names::SIDECAR_NAME)
}

/// What is known of refused pods. Clones are cheap and know the same.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Mutex<Breaker>>);

impl Refusals {
    /// Follows the events of the cluster, for ever. Without them every selected pod is injected, as it is where the
    /// API server does not allow the watch.
    pub async fn follow(&self, client: &Client) {
        let of_owners = events_where(Api::all(client.clone()), FAILED_CREATE, prune);
        let of_kubelets = events_where(Api::all(client.clone()), &of_sidecars(), prune);
        tokio::join!(self.take(of_owners), self.take_of_sidecars(of_kubelets));
    }

    /// Kubelets that start the agent, or cannot.
    async fn take_of_sidecars(&self, events: impl Stream<Item = watcher::Result<Event<Guarded<Recorded>>>>) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(Guarded(Ok(event))) | Event::InitApply(Guarded(Ok(event)))) => {
                    self.said(&event, Timestamp::now());
                }
                Ok(_) => {}
                Err(error) => interrupted("Event", &error),
            }
        }
    }

    fn said(&self, event: &Recorded, now: Timestamp) {
        let said = said(event, now);
        if said.reason == STARTED {
            return self.breaker().started(&said);
        }
        // Much that is normal has the same reasons.
        if event.type_.as_deref() != Some("Warning") {
            return;
        }
        match self.breaker().not_started(&said, now) {
            Some(LeftOut::Image(image)) => tracing::warn!(
                k8s.namespace.name = cut(said.namespace, NAME),
                container.image.name = image,
                "a node cannot pull the agent's image; pods of the namespace are created without a sidecar until no \
                 node has failed for 10 minutes"
            ),
            Some(LeftOut::Workload) => tracing::warn!(
                k8s.namespace.name = cut(said.namespace, NAME),
                k8s.pod.name = cut(said.pod.0, NAME),
                "a node cannot start the agent of this pod; pods of its workload are created without a sidecar until \
                 no node has failed for 10 minutes"
            ),
            None => {}
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
        if !self.breaker().refused(owner, words, Timestamp::now()) {
            return;
        }
        let of = &event.involved_object;
        let [kind, name] = [&of.kind, &of.name].map(|text| cut(text.as_deref().unwrap_or_default(), NAME));
        tracing::warn!(
            k8s.namespace.name = cut(owner.0, NAME),
            k8s.workload = %format_args!("{kind}/{name}"),
            "pods with an agent are refused; the pods of this workload start without one until it or its policy \
             changes"
        );
    }

    /// Why the pod gets no agent, where pods of its workload were refused or did not start; what is done with it is
    /// remembered.
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

fn said(event: &Recorded, now: Timestamp) -> Said<'_> {
    let ((namespace, uid), words) = told(event);
    let name = event.involved_object.name.as_deref().unwrap_or_default();
    let first = event.first_timestamp.as_ref().or(event.metadata.creation_timestamp.as_ref());
    let reason = event.reason.as_deref().unwrap_or_default();
    Said { namespace, pod: (name, uid), reason, words, first: first.map_or(now, |at| at.0) }
}

/// Takes away all but what, of whom, since when and the message.
fn prune(event: &mut Recorded) {
    let Recorded { metadata, involved_object, message, reason, type_, first_timestamp, .. } =
        std::mem::take(event);
    *event = Recorded {
        metadata,
        involved_object,
        message,
        reason,
        type_,
        first_timestamp,
        ..Recorded::default()
    };
}

#[cfg(test)]
mod tests {
    use fleetprof_core::inject::read;
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
        let pod = json!({"metadata": {"generateName": format!("{owner}-"), "ownerReferences": owners}});
        let pod = read(&pod.to_string()).unwrap();
        let held = refusals.attempt((&pod, "shop"), (&PolicyView::from(&policy), "agent:1"));
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

    fn of_sidecar(reason: &str, second: i64, words: &str) -> Recorded {
        let at = |second: i64| Timestamp::from_second(1_796_000_000 + second).unwrap().to_string();
        let event = json!({
            "metadata": {"namespace": "shop", "name": "e"}, "reason": reason, "message": words,
            "type": if reason == STARTED { "Normal" } else { "Warning" }, "firstTimestamp": at(second),
            "involvedObject": {"kind": "Pod", "name": "web-x2x9k", "uid": "p"},
        });
        let mut event = serde_json::from_value(event).unwrap();
        prune(&mut event);
        event
    }

    async fn take(refusals: &Refusals, events: Vec<Recorded>) {
        let events = events.into_iter().map(|event| Ok(Event::Apply(Guarded(Ok(event)))));
        refusals.take_of_sidecars(futures::stream::iter(events)).await;
    }

    #[tokio::test]
    async fn an_image_that_a_kubelet_cannot_pull_is_left_out() {
        let refusals = Refusals::default();
        let words = "Failed to pull image \"agent:1\": not found";
        assert_eq!(attempt(&refusals, "web"), None);
        take(&refusals, vec![of_sidecar("Failed", 0, words)]).await;
        assert_eq!(attempt(&refusals, "other").as_deref(), Some(words));
    }

    #[tokio::test]
    async fn a_sidecar_that_a_kubelet_cannot_start_is_left_out_of_its_workload() {
        let refusals = Refusals::default();
        let words = "Back-off restarting failed container fleetprof-agent in pod web-x2x9k_shop(p)";
        let started = of_sidecar(STARTED, 0, "Started container fleetprof-agent");
        take(&refusals, vec![started, of_sidecar("BackOff", 3_600, words)]).await;
        assert_eq!(attempt(&refusals, "web"), None, "it has worked for an hour");
        take(&refusals, vec![of_sidecar("BackOff", 10, words)]).await;
        assert_eq!(attempt(&refusals, "web").as_deref(), Some(words));
        assert_eq!(attempt(&refusals, "other"), None);
    }
}
