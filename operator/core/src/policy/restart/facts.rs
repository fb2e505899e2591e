//! What is known of a policy's workloads that matters for restarts?

use std::collections::HashMap;

use fleetprof_crds::restart::RestartStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::agent::AgentFacts;
use crate::link::PodLink;
use crate::pod::{PodFacts, Workload};

/// A workload in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// What it is.
    pub workload: Workload,
}

impl Key {
    /// The workload of a restart.
    #[must_use]
    pub fn of(last: &RestartStatus) -> Self {
        Self {
            namespace: last.namespace.clone(),
            workload: Workload { kind: last.kind.clone(), name: last.name.clone() },
        }
    }

    /// Whether the pod names this workload as its own.
    pub(super) fn is_of(&self, pod: &PodFacts) -> bool {
        *pod.namespace == *self.namespace && *pod.workload == self.workload
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.workload)
    }
}

/// What the API server says of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkloadFacts {
    /// It is paused, being deleted, or does not restart its pods by itself; the text says which.
    pub unfit: Option<String>,
    /// The controller has seen the newest spec, and there are as many pods of it, all of the newest revision,
    /// as it wants.
    pub settled: bool,
    /// Pods of the newest revision that are ready.
    pub ready: i32,
    /// Pods wanted.
    pub desired: i32,
    /// The agent version that its template was restarted for.
    pub restarted_for: Option<String>,
    /// Who else changed it last, as the API server calls them.
    pub changed_by: Option<String>,
    /// The pods that it takes for its own: anybody who may create pods can make one that names it as its
    /// controller.
    pub selector: LabelSelector,
}

/// What the API server says of a PodDisruptionBudget.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The pods that it protects.
    pub selector: LabelSelector,
    /// Pods that may be disrupted now; 0 where it is not known.
    pub allowed: i32,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The workloads, `None` where there is none of that name. One that was not looked at is missing.
    pub workloads: HashMap<Key, Option<WorkloadFacts>>,
    /// The budgets of their namespaces.
    pub budgets: Vec<BudgetFacts>,
}

/// The policy and its pods, as far as restarts go.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The time.
    pub now: Timestamp,
    /// Whether an admin lets the operator restart workloads at all.
    pub enabled: bool,
    /// When the policy was made, or this leader took over: the later of the two.
    pub since: Timestamp,
    /// The policy is suspended.
    pub suspended: bool,
    /// Generation of the policy.
    pub generation: Option<i64>,
    /// Version of the agent that new pods get.
    pub version: &'a str,
    /// Whether the policy names the agent's image, so that no agent is outdated.
    pub pinned: bool,
    /// The policy's pods.
    pub links: &'a [PodLink],
    /// Agents that report, by pod UID.
    pub agents: &'a HashMap<String, AgentFacts>,
    /// How often the API server took a change of a workload's template that did not end in a restart, as far
    /// as this leader knows.
    pub changes: &'a HashMap<Key, u32>,
    /// What the condition says of a restart that has failed.
    pub failure: Option<&'a str>,
    /// The last restart.
    pub last: Option<&'a RestartStatus>,
}
