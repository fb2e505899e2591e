//! A fleet, its policies and a leader, with a clock that moves by a tenth of a second or to what happens
//! next. The leader looks at a session when it is due, told of a report, or woken; as in the cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use fleetprof_core::agent::{AgentFacts, NodeAgents, PodSecurity, Reach};
use fleetprof_core::budget::Ledger;
use fleetprof_core::inject::ClusterRules;
use fleetprof_core::link;
use fleetprof_core::pod::PodFacts;
use fleetprof_core::policy;
use fleetprof_core::session::pacing::{self, Due};
use fleetprof_core::session::{self, Answers, CaptureFacts, JobFacts, Observed, PolicyFacts, Settings};
use fleetprof_core::view::{Policies, PolicyView};
use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_status::{Phase, TargetPhase};
use fleetprof_crds::{ProfileSession, ProfileSessionStatus, ProfilingPolicy};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::common;
use crate::volume::Shelf;

pub const TICK: SignedDuration = SignedDuration::from_millis(100);
const CREATED: i64 = 1_800_000_000;

pub struct Sim {
    pub now: Timestamp,
    pub ledger: Ledger,
    pub settings: Settings,
    pub node_cpu: i64,
    pub policies: Vec<(ProfilingPolicy, Timestamp)>,
    /// In the order in which they were created.
    pub sessions: BTreeMap<usize, Live>,
    pub agents: BTreeMap<String, Agent>,
    pub missed: usize,
    pub pods: HashMap<String, Vec<Arc<PodFacts>>>,
    pub volume: Shelf,
    /// How many sessions and pods were created.
    pub made: usize,
    pub pods_made: usize,
    /// How many targets of deleted sessions ended how.
    pub outcomes: BTreeMap<TargetPhase, usize>,
    /// The open captures with their sessions, as the gateway has them.
    pub captures: HashMap<String, (usize, CaptureFacts)>,
    protocol: u32,
}

/// A session, and when the leader looks at it next.
pub struct Live {
    pub object: Arc<ProfileSession>,
    pub created: Timestamp,
    /// When its first capture began.
    pub began: Option<Timestamp>,
    pub due: Option<Timestamp>,
    pub written: (ProfileSessionStatus, Timestamp),
}

impl Live {
    pub fn status(&self) -> &ProfileSessionStatus {
        self.object.status.as_ref().unwrap()
    }

    pub fn is(&self, namespace: &str, name: &str) -> bool {
        let meta = &self.object.metadata;
        meta.name.as_deref() == Some(name) && meta.namespace.as_deref() == Some(namespace)
    }

    pub fn has_ended(&self) -> bool {
        self.object.status.as_ref().is_some_and(|s| s.phase.is_terminal())
    }
}

impl Sim {
    /// So many namespaces with so many workloads of one pod each, all on one node; a policy in each.
    pub fn new(namespaces: usize, apps: usize, protocol: u32) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let keeps_all = json!({"selector": {}, "session": {"history": {"succeeded": 1000, "failed": 1000}}});
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
            policies: (0..namespaces)
                .map(|n| (policy_of(&name(n), CREATED, keeps_all.clone()), now))
                .collect(),
            sessions: BTreeMap::new(),
            agents,
            missed: 0,
            pods,
            volume: Shelf::of_mib(1024),
            made: 0,
            pods_made: 0,
            outcomes: BTreeMap::new(),
            captures: HashMap::new(),
            protocol,
        }
    }

    /// A session of one pod under the policy of its namespace.
    pub fn request(&mut self, pod: (&str, &str), trigger: Trigger, seconds: u32) {
        let (policy, _) =
            self.policies.iter().find(|(p, _)| p.metadata.namespace.as_deref() == Some(pod.0)).unwrap();
        let mut session =
            PolicyView::from(policy).draft(pod.0, format!("{trigger:?}-{}", self.made), trigger);
        session.spec.target = serde_json::from_value(json!({"pods": [pod.1]})).unwrap();
        session.spec.duration = fleetprof_crds::Duration::from_secs(seconds);
        self.add(session);
    }

    pub fn add(&mut self, mut session: ProfileSession) {
        session.metadata.uid = Some(format!("s-{:05}", self.made));
        session.metadata.creation_timestamp = Some(Time(self.now));
        let live = Live {
            object: Arc::new(session),
            created: self.now,
            began: None,
            due: Some(self.now),
            written: (ProfileSessionStatus::default(), Timestamp::MIN),
        };
        self.sessions.insert(self.made, live);
        self.made += 1;
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
        for live in self.sessions.values_mut() {
            live.due = Some(self.now);
        }
        for live in self.sessions.values() {
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
        self.pass(TICK);
    }

    /// To what happens next, at most that far.
    pub fn leap(&mut self, most: SignedDuration) {
        let policies = self.policies.iter().map(|(_, due)| *due);
        let sessions = self.sessions.values().filter_map(|live| live.due);
        let agents = self.agents.values().filter_map(|agent| agent.next(self.now));
        let next = policies.chain(sessions).chain(agents).min().map(|at| at.duration_since(self.now));
        self.pass(next.unwrap_or(most).clamp(TICK, most));
    }

    fn pass(&mut self, time: SignedDuration) {
        self.now += time;
        self.step_policies();
        self.look_at_sessions();
        let reports: Vec<_> = self.agents.values_mut().flat_map(|agent| agent.tick(self.now)).collect();
        for report in reports {
            let Some((of, facts)) = self.captures.get_mut(&report.capture) else { continue };
            if let Some(live) = self.sessions.get_mut(of) {
                live.due = Some(self.now);
                live.began = live.began.or(report.started_at.map(|_| self.now));
            }
            facts.report = Some(report);
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
            step.delete.iter().for_each(|of| self.delete_named(of));
        }
    }

    pub fn delete_named(&mut self, (namespace, name): &(String, String)) {
        let gone = self.sessions.iter().filter(|(_, live)| live.is(namespace, name));
        let gone: Vec<usize> = gone.map(|(n, _)| *n).collect();
        gone.into_iter().for_each(|n| self.delete(n));
    }

    fn step_policy(&self, policy: &ProfilingPolicy) -> policy::Step {
        let namespace = policy.metadata.namespace.clone().unwrap();
        let own = |s: &&Live| s.object.metadata.namespace.as_ref() == Some(&namespace);
        let sessions: Vec<Arc<ProfileSession>> =
            self.sessions.values().filter(own).map(|live| live.object.clone()).collect();
        policy::step(
            &policy.into(),
            &link::Observed {
                now: self.now,
                pods: &self.pods[&namespace],
                agents: &self.agent_facts(&namespace),
                node_agents: &NodeAgents::default(),
                settled: true,
                sessions: &sessions,
                policies: [PolicyView::from(policy)].into_iter().collect(),
                namespaces: &[(namespace.clone(), BTreeMap::new())].into(),
                version: "0.1.0",
                images: common::images(),
                destinations: &["default".to_owned()],
                attach_disabled: false,
                pod_security: PodSecurity::default(),
                refusal: &|_: &PodFacts, _: &Policies<'_>| None,
            },
        )
    }

    fn agent_facts(&self, namespace: &str) -> HashMap<String, AgentFacts> {
        let of = |pod: &Arc<PodFacts>| {
            let agent = AgentFacts {
                version: "0.1.0".into(),
                protocol: self.protocol,
                reach: if pod.sidecar.is_none() { Reach::Attached } else { Reach::Pod },
                runtimes: pod.containers.iter().map(|c| (c.id.clone(), "Python 3.11".to_owned())).collect(),
                offers: HashMap::new(),
            };
            self.agents
                .get(&pod.uid)
                .filter(|agent| agent.reports(self.now))
                .map(|_| (pod.uid.clone(), agent))
        };
        self.pods[namespace].iter().filter_map(of).collect()
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
        let is_due = |live: &Live, now: Timestamp| live.due.is_some_and(|due| due <= now);
        while let Some(n) = self.sessions.iter().find(|(_, live)| is_due(live, self.now)).map(|(n, _)| *n) {
            self.live(n).due = None;
            self.reconcile(n);
        }
    }

    pub fn live(&mut self, n: usize) -> &mut Live {
        self.sessions.get_mut(&n).unwrap()
    }

    fn observe(&self, n: usize, answers: &Answers) -> Observed {
        let live = &self.sessions[&n];
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
            node_agents: NodeAgents::default(),
            captures: captures
                .iter()
                .filter_map(|capture| Some(((*capture).clone(), self.captures.get(*capture)?.1.clone())))
                .collect(),
            places: answers.places.clone(),
            yields: captures.iter().filter_map(yields).collect(),
            node_cpu: ["n1", "n2"].map(|node| (node.to_owned(), self.node_cpu)).into(),
            recorded: live.written.0.phase,
            until_record: pacing::until_record(live.written.0.phase, self.now.duration_since(live.written.1)),
            job: JobFacts::Unlisted,
            earlier: 0,
            sessions: vec![],
            follow_ups: vec![],
        }
    }

    fn reconcile(&mut self, n: usize) {
        let (mut answers, mut requeue, mut again) = (Answers::default(), None, true);
        for _ in 0..8 {
            if !again {
                break;
            }
            let step = session::step(&self.sessions[&n].object, &self.observe(n, &answers), &self.settings);
            Arc::make_mut(&mut self.live(n).object).status = Some(step.status);
            requeue = step.requeue;
            let outcomes = step.actions.into_iter().map(|action| self.act(n, action)).collect();
            let now = self.now;
            // Its ttl may be over.
            let Some(live) = self.sessions.get_mut(&n) else { return };
            again = session::fold_all(Arc::make_mut(&mut live.object), &mut answers, outcomes, now);
        }
        let now = self.now;
        let live = self.live(n);
        let (status, (written, at)) = (live.object.status.clone().unwrap(), &live.written);
        let wait = match pacing::due(&live.object, written, &status, now.duration_since(*at), now) {
            Due::Now => {
                live.written = (status.clone(), now);
                None
            }
            Due::In(wait) => Some(wait),
            Due::Never => None,
        };
        let next = [wait, requeue].into_iter().flatten().min().map(|wait| now + wait.max(TICK));
        live.due = [live.due, next].into_iter().flatten().min();
    }

    /// Sessions that have not ended.
    pub fn open(&self) -> usize {
        self.sessions.values().filter(|live| !live.has_ended()).count()
    }

    /// Whether a session of a person has not ended that captures the pod.
    pub fn is_taken_by_a_person(&self, pod: &str) -> bool {
        self.sessions.values().any(|live| {
            let names = live.object.spec.target.iter().flat_map(|t| t.pods.iter().flatten());
            let open = live.object.status.as_ref().is_none_or(|s| s.phase < Phase::Uploading);
            live.object.spec.trigger == Trigger::OnDemand && open && names.into_iter().any(|name| name == pod)
        })
    }
}

/// The policy of a namespace.
pub fn policy_of(namespace: &str, created: i64, spec: Value) -> ProfilingPolicy {
    let created = Timestamp::from_second(created).unwrap().to_string();
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
        "metadata": {"name": "p", "namespace": namespace, "uid": format!("uid-{namespace}"), "generation": 1, "creationTimestamp": created},
        "spec": spec,
    }))
    .unwrap()
}
