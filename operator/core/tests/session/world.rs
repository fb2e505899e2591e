//! A namespace, a session and a clock to step it by.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::common;
use fleetprof_core::agent::{AgentFacts, NodeAgents, Reach};
use fleetprof_core::budget::Ledger;
use fleetprof_core::capture::CaptureScope;
use fleetprof_core::destination::Delivery;
use fleetprof_core::inject::{ClusterRules, ResourceRules};
use fleetprof_core::pod::PodFacts;
use fleetprof_core::session::Assembled;
use fleetprof_core::session::{
    Action, Answers, CaptureFacts, JobFacts, Observed, Outcome, Permission, PolicyFacts, Settings, Slices,
    fold_all, step,
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
    /// When the last step wants to look again.
    pub requeue: Option<SignedDuration>,
    /// Samples that are stored of a kind, where it is not 42.
    pub stored: HashMap<ProfileKind, i64>,
    /// Kinds that cannot be stored now.
    pub delayed: Vec<ProfileKind>,
    /// What the API server says to whoever attaches an agent, while it attaches none.
    pub attach_delayed: Option<String>,
    pub settings: Settings,
    /// What an outbox says of the profile of a kind, one after the other; of kinds without an entry, what
    /// `deliveries` has.
    pub turns: RefCell<HashMap<ProfileKind, VecDeque<Delivery>>>,
    /// Slices that were uploaded but are not on the volume.
    pub lost: u32,
    /// Slices that do not fit into the profile.
    pub left_out: u32,
    /// What destinations and receivers answer; others take everything.
    pub deliveries: HashMap<String, Delivery>,
}

/// What holds in the whole cluster.
pub fn rules() -> ClusterRules {
    ClusterRules { images: common::images().clone(), ..ClusterRules::default() }
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
            no_room: None,
            permission: Permission::Allowed,
            policy: PolicyFacts::Unnamed,
            namespace_labels: BTreeMap::new(),
            resources: ResourceRules::default(),
            pods: vec![],
            agents: HashMap::new(),
            node_agents: NodeAgents::default(),
            captures: HashMap::new(),
            places: HashMap::new(),
            yields: HashMap::new(),
            node_cpu: HashMap::new(),
            until_record: None,
            recorded: Phase::Pending,
            job: JobFacts::Unlisted,
            follow_ups: vec![],
            earlier: 0,
            sessions: vec![],
        };
        Self {
            now,
            session: session(spec),
            observed,
            actions: vec![],
            ledger: Ledger::default(),
            results_full: false,
            requeue: None,
            stored: HashMap::new(),
            delayed: vec![],
            attach_delayed: None,
            settings: Settings { rules: rules(), ..Settings::default() },
            lost: 0,
            left_out: 0,
            turns: RefCell::default(),
            deliveries: HashMap::new(),
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
            AgentFacts {
                version: "0.1.0".into(),
                protocol: 1,
                runtimes: HashMap::new(),
                offers: HashMap::new(),
                reach: Reach::Pod,
            },
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
        self.observed.recorded = self.session.status.as_ref().map_or(Phase::Pending, |s| s.phase);
        for _ in 0..8 {
            let step = step(&self.session, &self.observed, &self.settings);
            (self.session.status, self.requeue) = (Some(step.status), step.requeue);
            self.actions.clone_from(&step.actions);
            let outcomes = step.actions.into_iter().map(|action| self.act(action)).collect();
            if !self.fold(outcomes) {
                break;
            }
        }
        self
    }
    fn fold(&mut self, outcomes: Vec<Outcome>) -> bool {
        let mut answers = Answers { places: self.observed.places.clone(), ..Answers::default() };
        let again = fold_all(&mut self.session, &mut answers, outcomes, self.now);
        self.observed.places = answers.places;
        again
    }
    fn act(&mut self, action: Action) -> Outcome {
        match action {
            Action::Assemble { target, scope, uploaded, done, overdue } => {
                let found = uploaded.saturating_sub(self.lost);
                let slices = Slices { uploaded, found: Some(found), left_out: self.left_out };
                let assembled = self.assemble(&scope, &done);
                Outcome::Assembled { target, assembled, slices, overdue, symbols: Vec::new() }
            }
            Action::Claim(claim) => {
                let capture = claim.capture.clone();
                Outcome::Place { capture, place: self.ledger.claim(*claim, self.now) }
            }
            Action::Attach { target, .. } => match self.attach_delayed.clone() {
                Some(message) => Outcome::AttachDelayed { target, message },
                None => Outcome::Done,
            },
            Action::Record => Outcome::Recorded,
            Action::Open { place: Some(claim), .. } => {
                self.ledger.hold(*claim);
                Outcome::Done
            }
            Action::Open { place: None, order, .. } => {
                self.ledger.release(&order.capture);
                Outcome::Done
            }
            Action::Close { capture } => {
                self.ledger.release(&capture);
                Outcome::Done
            }
            Action::Deliver { target, profile, destination } => {
                let delivery = self.delivery(&destination);
                Outcome::Delivered { target, uri: profile.uri, destination, delivery }
            }
            Action::Notify { receiver, .. } => {
                let delivery = self.delivery(&receiver);
                Outcome::Notified { receiver, delivery }
            }
            Action::Summarize { .. } => Outcome::Summarized(vec![]),
            _ => Outcome::Done,
        }
    }
    fn delivery(&self, destination: &str) -> Delivery {
        self.deliveries.get(destination).cloned().unwrap_or(Delivery::Stored)
    }
    /// What the results say of each kind of the session.
    fn assemble(&self, scope: &CaptureScope, done: &[ProfileKind]) -> Vec<(ProfileKind, Assembled)> {
        let report = self.observed.captures.get(&scope.capture).and_then(|c| c.report.as_ref());
        let slices = report.map_or(0, |r| r.slices.saturating_sub(self.lost));
        let samples = |kind| self.stored.get(&kind).copied().unwrap_or(42);
        let first = self.session.spec.destinations[0].clone();
        let profile = |kind: ProfileKind| {
            let (uri, samples) = (format!("k-{kind}"), samples(kind));
            let mut profile =
                StoredProfile { kind, uri, bytes: 1, samples, destinations: vec![], failed: vec![] };
            // An outbox says once what became of a profile, and then takes it in again.
            let once = self.turns.borrow_mut().get_mut(&kind).map(VecDeque::pop_front);
            match once.map_or_else(|| self.delivery(&first), |told| told.unwrap_or(Delivery::Underway(None)))
            {
                Delivery::Stored => {
                    profile.destinations.push(first.clone());
                    Assembled::Profile(profile)
                }
                // It lacks the destination until it is there.
                Delivery::Underway(problem) => {
                    profile.failed.push(first.clone());
                    Assembled::Underway(problem, Some(profile))
                }
                Delivery::Failed(reason, why) => {
                    profile.failed.push(first.clone());
                    Assembled::Refused(reason, why, profile)
                }
            }
        };
        let one = |kind: ProfileKind| match slices {
            _ if done.contains(&kind) => Assembled::Kept,
            0 => Assembled::Nothing,
            _ if self.delayed.contains(&kind) => Assembled::Delayed(Reason::StorageFailed, "broken".into()),
            _ if self.results_full => Assembled::Delayed(Reason::StorageFull, "full".into()),
            _ if samples(kind) == 0 => Assembled::Nothing,
            _ => profile(kind),
        };
        scope.profiles.iter().map(|kind| (*kind, one(*kind))).collect()
    }
    pub fn report(
        &mut self,
        pod: &str,
        state: CaptureState,
        slices: u32,
        problem: Option<Reason>,
    ) -> &mut Self {
        self.report_with(pod, state, slices, problem, |_| {})
    }
    /// The same with more said.
    pub fn report_with(
        &mut self,
        pod: &str,
        state: CaptureState,
        slices: u32,
        problem: Option<Reason>,
        more: impl FnOnce(&mut CaptureReport),
    ) -> &mut Self {
        let capture = self.target(pod).capture.clone();
        let problem = problem.map(|reason| Problem { reason, message: String::new() });
        let started_at = (state != CaptureState::Accepted).then(|| self.now.as_second());
        let mut report = CaptureReport {
            problem,
            collector: Some("py-spy".into()),
            samples: i64::from(slices) * 10,
            slices,
            uploaded: slices,
            started_at,
            cpu_percent: Some(80),
            memory_percent: Some(30),
            ..CaptureReport::new(capture.clone(), state)
        };
        more(&mut report);
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
