//! Why has a pod no agent? The webhook's own rules, asked again about pods that run without one.

use std::sync::Arc;

use fleetprof_core::inject::{AdmissionFacts, ClusterRules, Verdict, judge};
use fleetprof_core::pod::PodFacts;
use fleetprof_core::view::Policies;
use fleetprof_crds::Reason;

use crate::watched::Namespaces;

/// Explains pods without an agent.
#[derive(Clone)]
pub struct Refusals {
    /// The namespaces of the cluster.
    pub namespaces: Namespaces,
    /// What holds in the whole cluster.
    pub rules: Arc<ClusterRules>,
}

impl Refusals {
    /// The reason for which the webhook leaves `pod` out under these policies; `None` where it would inject
    /// it.
    #[must_use]
    pub fn refusal(&self, pod: &PodFacts, policies: &Policies<'_>) -> Option<Reason> {
        let view = &serde_json::from_str(pod.uninjected.as_deref()?).ok()?;
        let labels = self.namespaces.labels(&pod.namespace);
        let facts =
            AdmissionFacts { namespace: &pod.namespace, namespace_labels: &labels, cluster: &self.rules };
        match judge(view, &facts, policies.near(&pod.namespace)) {
            Verdict::Skip(skip) => Some(skip.reason),
            Verdict::Inject { .. } | Verdict::Present | Verdict::NotSelected => None,
        }
    }
}
