//! A namespace, a session and a clock to step it by.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::common;
use fleetprof_core::agent::AgentFacts;
use fleetprof_core::budget::Ledger;
use fleetprof_core::pod::PodFacts;
use fleetprof_core::session::summary::{Assembled, fold_assembled};
use fleetprof_core::session::{
    Action, CaptureFacts, JobFacts, Observed, Permission, PolicyFacts, Settings, conclude, step,
};
use fleetprof_crds::ProfileKind;
use fleetprof_crds::session_status::{Phase, StoredProfile};
use fleetprof_crds::wire::{CaptureReport, CaptureState, Problem};
use fleetprof_crds::{ProfileSession, ProfilingPolicySpec, Reason};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A namespace with one session, its pods and its agents, and a clock.
pub struct World {
    pub now: Timestamp,
    pub session: ProfileSession,
    pub observed: Observed,
    /// What was asked for in the last pass.
    pub actions: Vec<Action>,
    pub ledger: Ledger,
    pub results_full: bool,
}

pub fn session(spec: Value) -> ProfileSession {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
        "metadata": {"name": "now", "namespace": "shop", "uid": "s-1", "generation": 1}, "spec": spec,
    }))
    .unwrap()
}

pub fn policy(spec: Value) -> PolicyFacts {
    let spec: ProfilingPolicySpec = serde_json::from_value(spec).unwrap();
    PolicyFacts::Found {
        uid: "p-1".into(),
        created: Some(Timestamp::from_second(1000).unwrap()),
        spec: Box::new(spec),
        yielded: HashMap::new(),
    }
}

pub fn pod(name: &str) -> PodFacts {
    let mut pod = common::pod("shop", name, "orders", 2000);
    pod.ips = Box::new([[10, 0, 0, 1].into()]);
    pod.containers[0].user.uid = Some(1000);
    pod
}

impl World {
    pub fn new(spec: Value) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let observed = Observed {
            now,
            settled: true,
            storage_full: false,
            permission: Permission::Allowed,
            policy: PolicyFacts::Unnamed,
            namespace_labels: BTreeMap::new(),
            pods: vec![],
            agents: HashMap::new(),
            captures: HashMap::new(),
            places: HashMap::new(),
            job: JobFacts::Unasked,
            follow_ups: vec![],
        };
        Self {
            now,
            session: session(spec),
            observed,
            actions: vec![],
            ledger: Ledger::default(),
            results_full: false,
        }
    }
    pub fn with_policy(mut self, spec: Value) -> Self {
        self.observed.policy = policy(spec);
        self
    }
    pub fn with_pod(mut self, pod: PodFacts) -> Self {
        self.observed.pods.push(Arc::new(pod));
        self
    }
    pub fn with_agent(mut self, pod: &str) -> Self {
        self.observed.agents.insert(
            format!("uid-{pod}"),
            AgentFacts { version: "0.1.0".into(), protocol: 1, runtimes: HashMap::new() },
        );
        self
    }
    pub fn after(&mut self, seconds: i64) -> &mut Self {
        self.now += SignedDuration::from_secs(seconds);
        self.observed.now = self.now;
        self.step()
    }
    /// Steps until nothing new comes of it, doing what the controller does with the actions.
    pub fn step(&mut self) -> &mut Self {
        self.observed.places.clear();
        for _ in 0..8 {
            let step = step(
                &self.session,
                &self.observed,
                &Settings { images: common::images().clone(), ..Settings::default() },
            );
            self.session.status = Some(step.status);
            self.actions.clone_from(&step.actions);
            if !self.act(step.actions) {
                break;
            }
        }
        self
    }
    pub fn act(&mut self, actions: Vec<Action>) -> bool {
        let mut again = false;
        for action in actions {
            match action {
                Action::Assemble { target, capture, .. } => {
                    let slices = self
                        .observed
                        .captures
                        .get(&capture)
                        .and_then(|c| c.report.as_ref())
                        .map_or(0, |r| r.slices);
                    let assembled = match (self.results_full, slices) {
                        (_, 0) => Assembled::Nothing,
                        (true, _) => Assembled::Delayed(Reason::StorageFull, "full".into()),
                        _ => Assembled::Profile(StoredProfile {
                            kind: ProfileKind::Cpu,
                            uri: "k".into(),
                            bytes: 1,
                            samples: 42,
                        }),
                    };
                    let delayed = matches!(assembled, Assembled::Delayed(..));
                    let status = self.session.status.as_mut().unwrap();
                    let until = status
                        .capture_end_time
                        .as_ref()
                        .map(|t| t.0 + self.session.spec.result_deadline.as_signed());
                    let before = status.targets[target].reason;
                    fold_assembled(
                        &mut status.targets[target],
                        assembled,
                        until.is_some_and(|u| self.now > u),
                        self.now,
                    );
                    again |= !delayed || status.targets[target].reason != before;
                }
                Action::Claim(claim) => {
                    let place = self.ledger.claim((*claim).clone(), self.now);
                    self.observed.places.insert(claim.capture, place);
                    again = true;
                }
                Action::Record => again = true,
                Action::Open { place: Some(claim), .. } => self.ledger.hold(*claim),
                Action::Open { place: None, order, .. } => self.ledger.release(&order.capture),
                Action::Close { capture } => self.ledger.release(&capture),
                Action::Summarize => {
                    let mut status = self.session.status.clone().unwrap();
                    conclude(&self.session, &mut status, self.now);
                    self.session.status = Some(status);
                    again = true;
                }
                _ => {}
            }
        }
        again
    }
    pub fn report(
        &mut self,
        pod: &str,
        state: CaptureState,
        slices: u32,
        problem: Option<Reason>,
    ) -> &mut Self {
        let capture = self.target(pod).capture.clone();
        let problem = problem.map(|reason| Problem { reason, message: String::new() });
        let started_at = (state != CaptureState::Accepted).then(|| self.now.as_second());
        let report = CaptureReport {
            capture: capture.clone(),
            state,
            problem,
            runtime: None,
            collector: Some("py-spy".into()),
            collector_why: None,
            samples: i64::from(slices) * 10,
            slices,
            uploaded: slices,
            started_at,
            ended_at: None,
            cpu_percent: Some(80),
            memory_percent: Some(30),
        };
        self.observed.captures.insert(capture, CaptureFacts { report: Some(report) });
        self.step()
    }
    pub fn target(&self, pod: &str) -> &fleetprof_crds::session_status::TargetStatus {
        self.status().targets.iter().find(|t| t.pod == pod).unwrap()
    }
    pub fn status(&self) -> &fleetprof_crds::ProfileSessionStatus {
        self.session.status.as_ref().unwrap()
    }
    pub fn is(&self, phase: Phase, reason: Reason) {
        assert_eq!(
            (self.status().phase, self.status().reason),
            (phase, Some(reason)),
            "{:#?}",
            self.status()
        );
    }
    pub fn asked_to<T>(&self, f: impl Fn(&Action) -> Option<T>) -> Vec<T> {
        self.actions.iter().filter_map(f).collect()
    }
}

pub fn one_pod() -> World {
    World::new(json!({"target": {"pods": ["a"]}, "duration": "10s"})).with_pod(pod("a")).with_agent("a")
}
