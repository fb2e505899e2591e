//! How does an administrator learn of alerts that lead nowhere? By an event on the operator's Deployment, since
//! there is no policy to show it, and by a metric.

use std::sync::Arc;

use fleetprof_core::text::advised;
use fleetprof_core::trigger::reach::Reach;
use fleetprof_crds::Reason;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Api, Client};

use super::memory::Memory;
use crate::events::Events;
use crate::metrics::Metrics;

/// Reports alerts.
#[derive(Clone)]
pub struct Nowhere {
    /// Writes the events, where there are any to be written.
    pub events: Option<(Client, Events)>,
    /// Namespace of the operator.
    pub namespace: Arc<str>,
    /// Name of its Deployment.
    pub deployment: Arc<str>,
    /// Counts.
    pub metrics: Metrics,
}

impl Nowhere {
    /// Counts how far alerts came, and reports those that lead nowhere, seldom.
    pub async fn tell(&self, reached: &[Reach], memory: &Memory) {
        for reach in Reach::ALL {
            let n = reached.iter().filter(|r| **r == reach).count();
            if n == 0 {
                continue;
            }
            self.metrics.alerts(reach, n);
            if reach != Reach::Matched && memory.tell_nowhere(reach, Timestamp::now()) {
                self.event(reach, n).await;
            }
        }
    }

    async fn event(&self, reach: Reach, n: usize) {
        let note = advised(format!("Of the last notification, {}", reach.says(n)), Reason::AlertUnmatched);
        tracing::info!(note, "alerts started no session");
        let Some((client, events)) = &self.events else { return };
        let about = self.deployment(client).await;
        let (reason, action) = (Reason::AlertUnmatched, "ReceiveAlerts");
        if reach.is_wanted() || reach == Reach::NoNamespace {
            events.warning(&about, reason, action, note).await;
        } else {
            events.normal(&about, reason, action, note).await;
        }
    }

    /// Without its uid, `kubectl get events` shows the event, and `kubectl describe` may not.
    async fn deployment(&self, client: &Client) -> ObjectReference {
        let api = Api::<Deployment>::namespaced(client.clone(), &self.namespace);
        let found = api.get_metadata_opt(&self.deployment).await.ok().flatten();
        ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some("Deployment".into()),
            namespace: Some(self.namespace.to_string()),
            name: Some(self.deployment.to_string()),
            uid: found.and_then(|found| found.metadata.uid),
            ..ObjectReference::default()
        }
    }
}
