//! What is looked at of the cluster for one policy?

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_crds::ProfileSession;
use jiff::Timestamp;

use crate::agent::{AgentFacts, NodeAgents, PodSecurity, Skip};
use crate::image::AgentImages;
use crate::pod::PodFacts;
use crate::view::{Labels, Policies};

/// Everything that is looked at beside the policy itself.
pub struct Observed<'a> {
    /// The time.
    pub now: Timestamp,
    /// The pods of the namespaces that the policy covers.
    pub pods: &'a [Arc<PodFacts>],
    /// Agents that report, by pod UID.
    pub agents: &'a HashMap<String, AgentFacts>,
    /// The agents of nodes.
    pub node_agents: &'a NodeAgents,
    /// Whether every agent has had the time to report since this leader took over.
    pub settled: bool,
    /// Sessions that name this policy.
    pub sessions: &'a [Arc<ProfileSession>],
    /// Every policy that may select the same pods, this one too.
    pub policies: Policies<'a>,
    /// The labels of the pods' namespaces. Namespaces that no cluster policy reaches, `kube-system` and the
    /// operator's own, are left out.
    pub namespaces: &'a BTreeMap<String, Labels>,
    /// Version of the operator: other agents are outdated, but for those whose policy names their image.
    pub version: &'a str,
    /// The images that agents may have.
    pub images: &'a AgentImages,
    /// Names of the destinations that are configured.
    pub destinations: &'a [String],
    /// Whether an administrator forbids to attach agents.
    pub attach_disabled: bool,
    /// Pod Security level of namespaces that name none.
    pub pod_security: PodSecurity,
    /// Why the webhook would leave out a pod that has no sidecar; `None` where it would inject it.
    pub refusal: &'a (dyn Fn(&PodFacts, &Policies<'_>) -> Option<Skip> + Sync),
}

impl Observed<'_> {
    /// Pod Security level that a namespace enforces.
    #[must_use]
    pub fn pod_security_of(&self, namespace: &str) -> PodSecurity {
        let labels = self.namespaces.get(namespace);
        labels.map_or(self.pod_security, |labels| PodSecurity::enforced(labels, self.pod_security))
    }
}
