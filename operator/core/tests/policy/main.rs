//! A policy, step by step: what is linked and why not, when rounds start, what is forgotten.
#![allow(missing_docs, clippy::unwrap_used)]

mod arbitrary;
#[path = "../common/mod.rs"]
mod common;
mod linked;
mod pace;
mod rows;
mod sessions;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, NodeAgents, PodSecurity, Reach, Skip};
use fleetprof_core::link::Observed;
use fleetprof_core::pod::PodFacts;
use fleetprof_core::policy::{Step, step};
use fleetprof_core::schedule;
use fleetprof_core::view::{Policies, PolicyView};
use fleetprof_crds::{ProfileSession, ProfilingPolicy, Reason};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const CREATED: i64 = 1_799_990_000;
const NOW: i64 = 1_800_000_000;

fn policy_of(name: &str, created: i64, spec: Value) -> ProfilingPolicy {
    let mut full = json!({"selector": {}});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    let created = Timestamp::from_second(created).unwrap().to_string();
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy", "spec": full,
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": 3, "creationTimestamp": created},
    }))
    .unwrap()
}

fn pod(name: &str, app: &str) -> PodFacts {
    common::pod("shop", name, app, CREATED + 60)
}

fn bare(mut pod: PodFacts) -> PodFacts {
    pod.sidecar = None;
    pod
}

struct World {
    now: Timestamp,
    settled: bool,
    pods: Vec<PodFacts>,
    agents: HashMap<String, AgentFacts>,
    sessions: Vec<ProfileSession>,
    others: Vec<ProfilingPolicy>,
    refusal: Option<Reason>,
    pod_security: PodSecurity,
}

impl World {
    fn new(pods: Vec<PodFacts>) -> Self {
        let now = Timestamp::from_second(NOW).unwrap();
        Self {
            now,
            settled: true,
            pods,
            agents: HashMap::new(),
            sessions: vec![],
            others: vec![],
            refusal: None,
            pod_security: PodSecurity::default(),
        }
    }
    fn heard_of(mut self, pods: &[&str]) -> Self {
        for name in pods {
            let runtimes = [(format!("{name}-c"), "Python 3.11".to_owned())].into();
            self.agents.insert(
                format!("uid-{name}"),
                AgentFacts {
                    version: "0.1.0".into(),
                    protocol: 1,
                    runtimes,
                    offers: HashMap::new(),
                    reach: Reach::Pod,
                },
            );
        }
        self
    }
    fn step(&self, policy: &ProfilingPolicy) -> Step {
        let refusal = |_: &PodFacts, _: &Policies<'_>| {
            self.refusal.map(|reason| Skip::new(reason, "the LimitRange small leaves no room"))
        };
        let policies = self.others.iter().chain([policy]).map(PolicyView::from).collect();
        step(
            &policy.into(),
            &Observed {
                now: self.now,
                pods: &self.pods.iter().cloned().map(Arc::new).collect::<Vec<_>>(),
                agents: &self.agents,
                node_agents: &NodeAgents::default(),
                settled: self.settled,
                sessions: &self.sessions.iter().cloned().map(Arc::new).collect::<Vec<_>>(),
                policies,
                namespaces: &[("shop".to_owned(), BTreeMap::new())].into(),
                version: "0.1.0",
                images: common::images(),
                destinations: &["default".to_owned()],
                attach_disabled: false,
                pod_security: self.pod_security,
                refusal: &refusal,
            },
        )
    }
}

fn session(name: &str, trigger: &str, phase: &str, ended: i64) -> ProfileSession {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"policyRef": {"name": "p"}, "trigger": trigger},
        "status": {"phase": phase, "startTime": Timestamp::from_second(ended - 60).unwrap().to_string(),
            "endTime": Timestamp::from_second(ended).unwrap().to_string()},
    }))
    .unwrap()
}

fn condition<'a>(step: &'a Step, type_: &str) -> (&'a str, &'a str) {
    let c = step.status.conditions.iter().find(|c| c.type_ == type_).unwrap();
    assert_eq!(c.observed_generation, Some(3));
    (&c.status, &c.reason)
}
