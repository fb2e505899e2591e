//! What is the current state that concerns a policy?

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, NodeAgents, Skip};
use fleetprof_core::inject::ClusterRules;
use fleetprof_core::link::Observed;
use fleetprof_core::pod::PodFacts;
use fleetprof_core::view::{Labels, Policies, PolicyView};
use fleetprof_crds::ProfileSession;
use jiff::Timestamp;

use super::Context;
use crate::agents;
use crate::watched::{Snapshot, sessions_of};

/// Why the webhook would leave a pod out.
type Refusal<'a> = dyn Fn(&PodFacts, &Policies<'_>) -> Option<Skip> + Sync + Send + 'a;

/// What was seen, with what it borrows.
pub struct Current<'a> {
    pods: Vec<Arc<PodFacts>>,
    agents: HashMap<String, AgentFacts>,
    node_agents: NodeAgents,
    sessions: Vec<Arc<ProfileSession>>,
    policies: Snapshot,
    namespaces: BTreeMap<String, Labels>,
    refusal: Box<Refusal<'a>>,
    rules: &'a ClusterRules,
    destinations: &'a [String],
}

impl<'a> Current<'a> {
    /// Looks at everything that belongs to `policy`.
    pub fn of(policy: &PolicyView<'_>, context: &'a Context) -> Self {
        let namespaces = namespaces(policy, context);
        let pods: Vec<_> = namespaces.keys().flat_map(|n| context.pods.namespace(n)).collect();
        Self {
            agents: agents::agents(&pods, &*context.agents, Some(policy.spec.agent.mode)),
            node_agents: agents::node_agents(
                &pods,
                &*context.agents,
                &context.refusals.rules,
                Timestamp::now(),
            ),
            sessions: sessions_of(&context.sessions, policy),
            policies: policy.namespace.map_or_else(|| context.policies.all(), |n| context.policies.near(n)),
            refusal: Box::new(move |pod, policies| context.refusals.refusal(pod, policies)),
            namespaces,
            pods,
            rules: &context.refusals.rules,
            destinations: &context.destinations,
        }
    }

    /// The same as the decision wants it.
    pub fn observed(&self, context: &Context) -> Observed<'_> {
        let now = Timestamp::now();
        Observed {
            now,
            settled: context.agents.settled(&self.pods, now),
            pods: &self.pods,
            agents: &self.agents,
            node_agents: &self.node_agents,
            sessions: &self.sessions,
            policies: self.policies.views(),
            namespaces: &self.namespaces,
            version: env!("CARGO_PKG_VERSION"),
            images: &self.rules.images,
            destinations: self.destinations,
            attach_disabled: self.rules.attach_disabled,
            pod_security: self.rules.default_pod_security,
            refusal: &*self.refusal,
        }
    }
}

/// The namespaces that the policy covers, with their labels.
fn namespaces(policy: &PolicyView<'_>, context: &Context) -> BTreeMap<String, Labels> {
    let all = &context.refusals.namespaces;
    match policy.namespace {
        Some(own) => [(own.to_owned(), all.labels(own))].into(),
        None => {
            all.all_reached().into_iter().filter(|(name, labels)| policy.covers(name, Some(labels))).collect()
        }
    }
}
