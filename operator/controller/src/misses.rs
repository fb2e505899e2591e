//! Why has a pod no agent? The webhook's own rules, asked again about pods that run without one.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetprof_core::inject::{AdmissionFacts, ClusterRules, Verdict, judge};
use fleetprof_core::pod::PodFacts;
use fleetprof_core::policy::PolicyView;
use fleetprof_crds::{ProfilingPolicy, Reason};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube_runtime::reflector::{ObjectRef, Store};

/// Explains pods without an agent.
#[derive(Clone)]
pub struct Misses {
    /// The policies of the cluster.
    pub policies: Store<ProfilingPolicy>,
    /// The namespaces of the cluster.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// What holds in the whole cluster.
    pub rules: Arc<ClusterRules>,
}

impl Misses {
    /// The reason for which the webhook leaves `pod` out; `None` where it would inject it.
    #[must_use]
    pub fn refusal(&self, pod: &PodFacts) -> Option<Reason> {
        let view = pod.uninjected.as_ref()?;
        let labels = self.labels(&pod.namespace);
        let facts = AdmissionFacts { namespace: &pod.namespace, namespace_labels: &labels, cluster: &self.rules };
        let policies: Vec<Arc<ProfilingPolicy>> =
            self.policies.state().into_iter().filter(|p| p.namespace().as_deref() == Some(&pod.namespace)).collect();
        match judge(view, &facts, policies.iter().map(|p| PolicyView::from(&**p))) {
            Verdict::Skip(skip) => Some(skip.reason),
            Verdict::Inject { .. } | Verdict::Present | Verdict::NotSelected => None,
        }
    }

    /// Labels of a namespace.
    #[must_use]
    pub fn labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let found = self.namespaces.get(&ObjectRef::new(namespace));
        found.and_then(|n| n.metadata.labels.clone()).unwrap_or_default()
    }
}
