//! A node, its pods, their policies and a leader, with a clock that moves by a tenth of a second. The leader
//! looks at a session when it is due, told of a report, or woken; as in the cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, PodSecurity};
use fleetprof_core::budget::Ledger;
use fleetprof_core::inject::ClusterRules;
use fleetprof_core::link;
use fleetprof_core::pod::PodFacts;
use fleetprof_core::policy;
use fleetprof_core::session::pacing::{self, Due};
use fleetprof_core::session::{
    self, Action, Answers, Assembled, CaptureFacts, JobFacts, Observed, Outcome, PolicyFacts, Settings,
    Slices,
};
use fleetprof_core::view::{Policies, PolicyView};
use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_status::{Phase, StoredProfile};
use fleetprof_crds::{ProfileSession, ProfileSessionStatus, ProfilingPolicy};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::agent::Agent;
use crate::common;

pub const TICK: SignedDuration = SignedDuration::from_millis(100);
const CREATED: i64 = 1_800_000_000;

pub struct Sim {
    pub now: Timestamp,
    pub ledger: Ledger,
    pub settings: Settings,
    pub node_cpu: i64,
    pub policies: Vec<(ProfilingPolicy, Timestamp)>,
    pub sessions: Vec<Live>,
    pub agents: BTreeMap<String, Agent>,
    pub missed: usize,
    pods: HashMap<String, Vec<Arc<PodFacts>>>,
    captures: HashMap<String, CaptureFacts>,
    by_capture: HashMap<String, usize>,
    protocol: u32,
}

/// A session, and when the leader looks at it next.
pub struct Live {
    pub object: ProfileSession,
    pub created: Timestamp,
    /// When its first capture began.
    pub began: Option<Timestamp>,
    due: Option<Timestamp>,
    written: (ProfileSessionStatus, Timestamp),
}

impl Live {
    pub fn status(&self) -> &ProfileSessionStatus {
        self.object.status.as_ref().unwrap()
    }
}

impl Sim {
    /// So many namespaces with so many workloads of one pod each, all on one node; a policy in each.
    pub fn new(namespaces: usize, apps: usize, protocol: u32) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let name = |n: usize| format!("team-{n:02}");
        let pod = |n: usize, m: usize| {
            let pod = common::pod(
                &name(n),
                &format!("{}-app-{m:02}", name(n)),
                &format!("app-{m:02}"),
                CREATED + 60,
            );
            Arc::new(pod)
        };
        let pods = (0..namespaces).map(|n| (name(n), (0..apps).map(|m| pod(n, m)).collect()));
        let pods: HashMap<String, Vec<Arc<PodFacts>>> = pods.collect();
        let agents = pods.values().flatten().map(|pod| (pod.uid.clone(), Agent::default())).collect();
        Self {
            now,
            ledger: Ledger::default(),
            settings: Settings {
                rules: ClusterRules { images: common::images().clone(), ..ClusterRules::default() },
                ..Settings::default()
            },
            node_cpu: 4000,
            policies: (0..namespaces).map(|n| (policy_of(&name(n)), now)).collect(),
            sessions: vec![],
            agents,
            missed: 0,
            pods,
            captures: HashMap::new(),
            by_capture: HashMap::new(),
            protocol,
        }
    }

    /// A session of one pod under the policy of its namespace.
    pub fn request(&mut self, pod: (&str, &str), trigger: Trigger, seconds: u32) {
        let (policy, _) =
            self.policies.iter().find(|(p, _)| p.metadata.namespace.as_deref() == Some(pod.0)).unwrap();
        let mut session =
            PolicyView::from(policy).draft(pod.0, format!("{trigger:?}-{}", self.sessions.len()), trigger);
        session.spec.target = serde_json::from_value(json!({"pods": [pod.1]})).unwrap();
        session.spec.duration = fleetprof_crds::Duration::from_secs(seconds);
        self.add(session);
    }

    fn add(&mut self, mut session: ProfileSession) {
        session.metadata.uid = Some(format!("s-{:05}", self.sessions.len()));
        session.metadata.creation_timestamp = Some(Time(self.now));
        self.sessions.push(Live {
            object: session,
            created: self.now,
            began: None,
            due: Some(self.now),
            written: (ProfileSessionStatus::default(), Timestamp::MIN),
        });
    }

    /// Names of all pods with their namespaces.
    pub fn pod_names(&self) -> Vec<(String, String)> {
        let mut names: Vec<_> =
            self.pods.values().flatten().map(|pod| (pod.namespace.to_string(), pod.name.clone())).collect();
        names.sort();
        names
    }

    /// The next leader: it holds what is on record before it grants anything.
    pub fn fail_over(&mut self) {
        self.ledger = Ledger::default();
        for live in &mut self.sessions {
            live.due = Some(self.now);
        }
        for live in &self.sessions {
            let policy = self.policy_facts(&live.object);
            let targets = live.object.status.iter().flat_map(|s| &s.targets);
            for target in targets.filter(|target| target.phase.holds_place()) {
                let of = (&self.settings, None);
                self.ledger.hold(session::capture::claim(target, &live.object, &policy, of));
            }
        }
    }

    /// A tenth of a second.
    pub fn tick(&mut self) {
        self.now += TICK;
        self.step_policies();
        self.look_at_sessions();
        let reports: Vec<_> = self.agents.values_mut().flat_map(|agent| agent.tick(self.now)).collect();
        for report in reports {
            let Some(&of) = self.by_capture.get(&report.capture) else { continue };
            self.sessions[of].due = Some(self.now);
            let began = report.started_at.map(|_| self.now);
            self.sessions[of].began = self.sessions[of].began.or(began);
            self.captures.insert(report.capture.clone(), CaptureFacts { report: Some(report) });
        }
        self.look_at_sessions();
    }

    fn step_policies(&mut self) {
        for n in 0..self.policies.len() {
            if self.policies[n].1 > self.now {
                continue;
            }
            let step = self.step_policy(&self.policies[n].0);
            self.missed += usize::from(step.missed.is_some());
            self.policies[n].0.status = Some(step.status);
            self.policies[n].1 = self.now + step.requeue;
            step.create.into_iter().for_each(|session| self.add(session));
        }
    }

    fn step_policy(&self, policy: &ProfilingPolicy) -> policy::Step {
        let namespace = policy.metadata.namespace.clone().unwrap();
        let own = |s: &&Live| s.object.metadata.namespace.as_ref() == Some(&namespace);
        let sessions: Vec<_> =
            self.sessions.iter().filter(own).map(|live| Arc::new(live.object.clone())).collect();
        policy::step(
            &policy.into(),
            &link::Observed {
                now: self.now,
                pods: &self.pods[&namespace],
                agents: &self.agent_facts(&namespace),
                settled: true,
                sessions: &sessions,
                policies: [PolicyView::from(policy)].into_iter().collect(),
                namespaces: &[(namespace.clone(), BTreeMap::new())].into(),
                version: "0.1.0",
                images: common::images(),
                attach_disabled: false,
                pod_security: PodSecurity::default(),
                refusal: &|_: &PodFacts, _: &Policies<'_>| None,
            },
        )
    }

    fn agent_facts(&self, namespace: &str) -> HashMap<String, AgentFacts> {
        let agent = AgentFacts { version: "0.1.0".into(), protocol: self.protocol, ..AgentFacts::default() };
        self.pods[namespace].iter().map(|pod| (pod.uid.clone(), agent.clone())).collect()
    }

    fn policy_facts(&self, session: &ProfileSession) -> PolicyFacts {
        let (policy, _) =
            self.policies.iter().find(|(p, _)| p.metadata.namespace == session.metadata.namespace).unwrap();
        PolicyFacts::Found {
            uid: policy.metadata.uid.clone().unwrap(),
            created: policy.metadata.creation_timestamp.as_ref().map(|t| t.0),
            spec: Box::new(policy.spec.clone()),
            yielded: HashMap::new(),
        }
    }

    fn look_at_sessions(&mut self) {
        while let Some(n) = self.sessions.iter().position(|live| live.due.is_some_and(|due| due <= self.now))
        {
            self.sessions[n].due = None;
            self.reconcile(n);
        }
    }

    fn observe(&self, n: usize, answers: &Answers) -> Observed {
        let live = &self.sessions[n];
        let namespace = live.object.metadata.namespace.as_deref().unwrap();
        let captures: HashSet<&String> =
            live.object.status.iter().flat_map(|s| &s.targets).map(|target| &target.capture).collect();
        let yields =
            |capture: &&String| Some(((*capture).clone(), self.ledger.yields_to(capture)?.to_owned()));
        Observed {
            now: self.now,
            settled: true,
            no_room: None,
            resources: fleetprof_core::inject::ResourceRules::default(),
            permission: answers.permission.clone(),
            policy: self.policy_facts(&live.object),
            namespace_labels: BTreeMap::new(),
            pods: self.pods[namespace].clone(),
            agents: self.agent_facts(namespace),
            captures: captures
                .iter()
                .filter_map(|capture| Some(((*capture).clone(), self.captures.get(*capture)?.clone())))
                .collect(),
            places: answers.places.clone(),
            yields: captures.iter().filter_map(yields).collect(),
            node_cpu: [("n1".to_owned(), self.node_cpu)].into(),
            until_record: pacing::until_record(live.written.0.phase, self.now.duration_since(live.written.1)),
            job: JobFacts::Unlisted,
            earlier: 0,
            follow_ups: vec![],
        }
    }

    fn reconcile(&mut self, n: usize) {
        let (mut answers, mut requeue, mut again) = (Answers::default(), None, true);
        for _ in 0..8 {
            if !again {
                break;
            }
            let step = session::step(&self.sessions[n].object, &self.observe(n, &answers), &self.settings);
            self.sessions[n].object.status = Some(step.status);
            requeue = step.requeue;
            let outcomes = step.actions.into_iter().map(|action| self.act(n, action)).collect();
            again = session::fold_all(&mut self.sessions[n].object, &mut answers, outcomes, self.now);
        }
        let live = &mut self.sessions[n];
        let (status, (written, at)) = (live.object.status.clone().unwrap(), &live.written);
        let wait = match pacing::due(&live.object, written, &status, self.now.duration_since(*at), self.now) {
            Due::Now => {
                live.written = (status.clone(), self.now);
                None
            }
            Due::In(wait) => Some(wait),
            Due::Never => None,
        };
        let next = [wait, requeue].into_iter().flatten().min().map(|wait| self.now + wait.max(TICK));
        let live_next = next.filter(|_| !status.phase.is_terminal());
        live.due = [live.due, live_next].into_iter().flatten().min();
    }

    fn act(&mut self, n: usize, action: Action) -> Outcome {
        match action {
            Action::CheckPermission => return Outcome::Permission(session::Permission::Allowed),
            Action::Claim(claim) => {
                let capture = claim.capture.clone();
                let place = self.ledger.claim(*claim, self.now);
                for (namespace, name) in self.ledger.yielding_to(&capture) {
                    let is = |live: &&mut Live| {
                        let meta = &live.object.metadata;
                        meta.name.as_ref() == Some(&name) && meta.namespace.as_ref() == Some(&namespace)
                    };
                    self.sessions.iter_mut().find(is).unwrap().due = Some(self.now);
                }
                return Outcome::Place { capture, place };
            }
            Action::Record => {
                self.sessions[n].written = (self.sessions[n].status().clone(), self.now);
                return Outcome::Recorded;
            }
            Action::Open { scope, order, place } => {
                match place {
                    Some(claim) => self.ledger.hold(*claim),
                    None => self.ledger.release(&order.capture),
                }
                self.by_capture.insert(order.capture.clone(), n);
                let pod =
                    self.sessions[n].status().targets.iter().find(|t| t.capture == scope.capture).unwrap();
                self.agents.get_mut(&pod.pod_uid).unwrap().orders.insert(order.capture.clone(), order);
            }
            Action::Close { capture } => {
                self.ledger.release(&capture);
                self.agents.values_mut().for_each(|agent| drop(agent.orders.remove(&capture)));
            }
            Action::Assemble { target, scope, uploaded } => {
                let report = self.captures.get(&scope.capture).and_then(|facts| facts.report.as_ref());
                let slices = report.map_or(0, |report| report.slices);
                let one = |kind| match slices {
                    0 => (kind, Assembled::Nothing),
                    n => {
                        let profile =
                            StoredProfile { kind, uri: "k".into(), bytes: 1, samples: i64::from(n) };
                        (kind, Assembled::Profile(profile))
                    }
                };
                return Outcome::Assembled {
                    target,
                    assembled: scope.profiles.iter().map(|k| one(*k)).collect(),
                    slices: Slices { uploaded, found: Some(uploaded), left_out: 0 },
                };
            }
            Action::Summarize { .. } => return Outcome::Summarized(vec![]),
            Action::Attach { .. } | Action::Forget | Action::Repeat { .. } => {}
        }
        Outcome::Done
    }

    /// Sessions that have not ended.
    pub fn open(&self) -> usize {
        let ended = |live: &&Live| live.object.status.as_ref().is_some_and(|s| s.phase.is_terminal());
        self.sessions.iter().filter(|live| !ended(live)).count()
    }

    /// Whether a session of a person has not ended that captures the pod.
    pub fn is_taken_by_a_person(&self, pod: &str) -> bool {
        self.sessions.iter().any(|live| {
            let names = live.object.spec.target.iter().flat_map(|t| t.pods.iter().flatten());
            let open = live.object.status.as_ref().is_none_or(|s| s.phase < Phase::Uploading);
            live.object.spec.trigger == Trigger::OnDemand && open && names.into_iter().any(|name| name == pod)
        })
    }
}

fn policy_of(namespace: &str) -> ProfilingPolicy {
    let created = Timestamp::from_second(CREATED).unwrap().to_string();
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
        "metadata": {"name": "p", "namespace": namespace, "uid": format!("uid-{namespace}"), "generation": 1, "creationTimestamp": created},
        "spec": {"selector": {}},
    }))
    .unwrap()
}
