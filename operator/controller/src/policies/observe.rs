//! What is so right now, for one policy?

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::pod::PodFacts;
use fleetprof_core::policy::{Labels, Observed, PolicyView};
use fleetprof_core::session::AgentFacts;
use fleetprof_crds::{ProfileSession, ProfilingPolicy, Reason};
use jiff::Timestamp;
use kube::ResourceExt;

use super::Context;
use crate::sessions;

/// Why the webhook would leave a pod out.
type Refusal<'a> = dyn Fn(&PodFacts) -> Option<Reason> + Sync + Send + 'a;

/// What was seen, with what it borrows.
pub struct Seen<'a> {
    pods: Vec<Arc<PodFacts>>,
    agents: HashMap<String, AgentFacts>,
    sessions: Vec<Arc<ProfileSession>>,
    policies: Vec<Arc<ProfilingPolicy>>,
    namespaces: BTreeMap<String, Labels>,
    refusal: Box<Refusal<'a>>,
}

impl<'a> Seen<'a> {
    /// Looks at everything that belongs to `policy`.
    pub fn of(policy: &'a ProfilingPolicy, context: &'a Context) -> Self {
        let namespace = policy.namespace();
        let name = policy.name_any();
        let pods = context.pods.namespace(namespace.as_deref().unwrap_or_default());
        let named = |s: &Arc<ProfileSession>| s.namespace() == namespace && s.spec.policy_ref.as_ref().is_some_and(|p| p.name == name);
        Self {
            agents: sessions::agents(&pods, &context.fleet),
            sessions: context.sessions.state().into_iter().filter(named).collect(),
            policies: context.policies.state().into_iter().filter(|p| p.namespace() == namespace).collect(),
            namespaces: namespace.iter().map(|n| (n.clone(), context.misses.labels(n))).collect(),
            refusal: Box::new(move |pod| context.misses.refusal(pod)),
            pods,
        }
    }

    /// The same as the decision wants it.
    pub fn observed(&self, context: &Context) -> Observed<'_> {
        let now = Timestamp::now();
        Observed {
            now,
            settled: context.fleet.settled_in(now),
            pods: self.pods.clone(),
            agents: self.agents.clone(),
            sessions: self.sessions.clone(),
            policies: self.policies.iter().map(|p| PolicyView::from(&**p)).collect(),
            namespaces: self.namespaces.clone(),
            version: env!("CARGO_PKG_VERSION"),
            refusal: &*self.refusal,
        }
    }
}
