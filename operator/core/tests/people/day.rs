//! Does anything grow? A day of a fleet in which pods are replaced, agents die, policies are edited, leaders
//! change, and namespaces come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetprof_core::pod::{AgentContainerState, PodFacts};
use fleetprof_core::session::history;
use fleetprof_core::trigger::{Firing, admit};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::names::MAX_ATTACHED;
use fleetprof_crds::session::Trigger;
use fleetprof_crds::session_status::TargetPhase;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::common;
use crate::sim::{Live, Sim, policy_of};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Sessions of people that are kept in each namespace; the chart's default is five times as many.
const KEPT: usize = 20;
/// Those that a policy keeps: the defaults of `session.history`.
const HISTORY: usize = 10 + 5;
/// Triggers of a workload in one cooldown of four hours, and the one whose cooldown is just over.
const FIRED: usize = 2;
/// Size of the results volume in MiB: it is short of room now and then.
const VOLUME: u64 = 16;
const WORKLOADS: usize = 10;
const PERMANENT: [&str; 3] = ["team-00", "team-01", "team-02"];

/// Three namespaces with workloads of two replicas, the last with half as many of four; half of the replicas
/// are on either of two nodes, 30 a node. The first has sidecars, the agents of the others are attached.
fn fleet() -> Sim {
    let mut sim = Sim::new(0, 0, fleetprof_crds::wire::PROTOCOL);
    sim.volume = crate::volume::Shelf::of_mib(VOLUME);
    for namespace in PERMANENT {
        let mode = if namespace == "team-00" { "Sidecar" } else { "Ephemeral" };
        let policy = policy_of(namespace, sim.now.as_second(), spec(mode, 0));
        sim.policies.push((policy, sim.now));
        sim.pods.insert(namespace.into(), vec![]);
        for n in 0..WORKLOADS * 2 {
            let replicas = if namespace == "team-02" { 4 } else { 2 };
            sim.add_pod(namespace, &format!("app-{:02}", n / replicas), ["n1", "n2"][n % 2]);
        }
    }
    sim
}

/// The spec of a policy after so many edits.
fn spec(mode: &str, edits: usize) -> Value {
    let (every, duration, at_once) = [("1h", "2m", 10), ("30m", "1m", 2), ("20m", "30s", 10)][edits % 3];
    json!({
        "selector": {}, "agent": {"mode": mode}, "schedule": {"every": every, "duration": duration},
        "budget": {"maxConcurrent": at_once}, "triggers": {"cpu": {"cooldown": "4h"}},
        "suspend": edits % 7 == 3, "suspendBehavior": "Cancel",
    })
}

/// What happens to a fleet in a minute.
type Happens = fn(&mut Sim, usize);

impl Sim {
    fn add_pod(&mut self, namespace: &str, app: &str, node: &str) {
        self.pods_made += 1;
        let name = format!("{app}-{}", self.pods_made);
        let mut pod = common::pod(namespace, &name, app, self.now.as_second());
        pod.node = node.into();
        pod.containers[0].user.uid = Some(1000);
        if namespace == "team-00" {
            self.agents.insert(pod.uid.clone(), Agent::default());
        } else {
            pod.sidecar = None;
        }
        self.pods.entry(namespace.to_owned()).or_default().push(Arc::new(pod));
    }

    /// A pod goes, and another one of its workload comes.
    fn replace_pod(&mut self, namespace: &str, n: usize) {
        let pods = self.pods.get_mut(namespace).unwrap();
        let old = pods.remove(n % pods.len());
        self.agents.remove(&old.uid);
        self.add_pod(namespace, &old.workload.name, &old.node);
    }

    /// An agent is killed; one that was attached stays dead.
    fn lose_agent(&mut self, n: usize) {
        let now = self.now;
        let all = self.agents.len().max(1);
        let Some((uid, agent)) = self.agents.iter_mut().nth(n % all) else { return };
        let uid = uid.clone();
        agent.restart(now, MINUTE);
        self.end_attached(&uid, "Error");
    }

    /// Attached agents without work leave.
    fn leave(&mut self) {
        let left = self.agents.iter().filter(|(_, agent)| agent.has_left(self.now));
        let left: Vec<String> = left.map(|(uid, _)| uid.clone()).collect();
        left.iter().for_each(|uid| self.end_attached(uid, "Completed"));
    }

    fn end_attached(&mut self, uid: &str, why: &str) {
        let pod = self.pods.values_mut().flatten().find(|pod| pod.uid == uid).unwrap();
        if pod.sidecar.is_some() {
            return;
        }
        for agent in &mut Arc::make_mut(pod).attached {
            agent.state = AgentContainerState::Ended(why.into());
        }
        self.agents.remove(uid);
    }

    fn edit(&mut self, n: usize) {
        let of = n % PERMANENT.len();
        let now = self.now;
        let (policy, due) = &mut self.policies[of];
        let generation = policy.metadata.generation.get_or_insert(1);
        *generation += 1;
        let mode = if of == 0 { "Sidecar" } else { "Ephemeral" };
        policy.spec = serde_json::from_value(spec(mode, n)).unwrap();
        *due = now;
    }

    fn fire(&mut self, n: usize) {
        let (policy, _) = self.policies[n % PERMANENT.len()].clone();
        let namespace = policy.metadata.namespace.clone().unwrap();
        let pods = &self.pods[&namespace];
        let pod = &pods[n % pods.len()];
        let firing = Firing {
            trigger: Trigger::Cpu,
            source: "cpu".into(),
            namespace: namespace.clone(),
            workload: (*pod.workload).clone(),
            pods: vec![pod.name.clone()],
            cause: "CPU is high".into(),
            key: n.to_string(),
            ongoing: None,
            duration: fleetprof_crds::Duration::from_secs(30),
            cooldown: fleetprof_crds::Duration::from_secs(4 * 3600),
            compare: None,
            labels: BTreeMap::new(),
        };
        let own = |live: &&Live| live.object.metadata.namespace.as_ref() == Some(&namespace);
        let past: Vec<_> = self.sessions.values().filter(own).map(|live| live.object.clone()).collect();
        for session in admit(&PolicyView::from(&policy), vec![firing], &past, self.now).create {
            self.add(session);
        }
    }

    /// Nobody looks at the last namespace.
    fn ask(&mut self, n: usize) {
        let mut pods = self.pod_names();
        pods.retain(|(namespace, _)| namespace != "team-02");
        let (namespace, pod) = &pods[crate::below(pods.len(), "person", n)];
        if !self.is_taken_by_a_person(pod) {
            let seconds = u32::try_from(10 + crate::below(111, "duration", n)).unwrap();
            self.request((namespace, pod), Trigger::OnDemand, seconds);
        }
    }

    /// What the janitor deletes of what people have started.
    fn keep_history(&mut self) {
        let all: Vec<_> = self.sessions.values().map(|live| live.object.clone()).collect();
        for session in history::over(&all, KEPT) {
            let (namespace, name) = (&session.metadata.namespace, &session.metadata.name);
            self.delete_named(&(namespace.clone().unwrap(), name.clone().unwrap()));
        }
    }

    /// A namespace that lives for less than an hour, as those of a CI do.
    fn open_namespace(&mut self, n: usize) {
        let name = format!("ci-{n}");
        let spec = json!({"selector": {}, "agent": {"mode": "Ephemeral"}, "schedule": {"every": "10m", "duration": "1m"}});
        self.policies.push((policy_of(&name, self.now.as_second(), spec), self.now));
        self.add_pod(&name, "built", "n1");
    }

    fn delete_namespaces(&mut self) {
        let is_gone = |namespace: Option<&str>| namespace.is_some_and(|name| !PERMANENT.contains(&name));
        self.policies.retain(|(policy, _)| !is_gone(policy.metadata.namespace.as_deref()));
        let gone = self.sessions.iter().filter(|(_, s)| is_gone(s.object.metadata.namespace.as_deref()));
        let gone: Vec<usize> = gone.map(|(n, _)| *n).collect();
        gone.into_iter().for_each(|n| self.delete(n));
        self.pods.retain(|name, _| PERMANENT.contains(&name.as_str()));
        let live: BTreeSet<&String> = self.pods.values().flatten().map(|pod| &pod.uid).collect();
        self.agents.retain(|uid, _| live.contains(uid));
    }

    /// What happens in a minute besides rounds.
    fn disturb(&mut self, minute: usize) {
        let every = |minutes: usize| minute % minutes == minutes - 1;
        let on_each: [(usize, Happens); 9] = [
            (3, Self::ask),
            (4, Self::fire),
            (17, Self::lose_agent),
            (23, |sim, n| sim.replace_pod(PERMANENT[n % 3], n)),
            (170, |sim, _| (0..WORKLOADS * 2).for_each(|_| sim.replace_pod(PERMANENT[1], 0))),
            (37, |sim, n| sim.edit(n / 37)),
            (59, Self::open_namespace),
            (60, |sim, _| sim.fail_over()),
            (90, |sim, _| sim.delete_namespaces()),
        ];
        on_each
            .into_iter()
            .filter(|(minutes, _)| every(*minutes))
            .for_each(|(_, happens)| happens(self, minute));
        self.leave();
        self.keep_history();
    }
}

/// How much of everything there is, at its most.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    sessions: usize,
    captures: usize,
    remembered: usize,
    ledger: usize,
    attached: usize,
    policy: usize,
    session: usize,
}

impl Held {
    fn of(sim: &Sim) -> Self {
        let size = |status: Value| status.to_string().len();
        let policies = sim.policies.iter().map(|(policy, _)| size(json!(policy.status)));
        let sessions = sim.sessions.values().map(|live| size(json!(live.object.status)));
        Self {
            sessions: sim.sessions.len(),
            captures: sim.captures.len(),
            remembered: sim.agents.values().map(Agent::remembers).sum(),
            // Whatever map of it grows.
            ledger: format!("{:?}", sim.ledger).len(),
            attached: sim.pods.values().flatten().map(|pod| pod.attached.len()).max().unwrap_or(0),
            policy: policies.max().unwrap_or(0),
            session: sessions.max().unwrap_or(0),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            sessions: self.sessions.max(other.sessions),
            captures: self.captures.max(other.captures),
            remembered: self.remembered.max(other.remembered),
            ledger: self.ledger.max(other.ledger),
            attached: self.attached.max(other.attached),
            policy: self.policy.max(other.policy),
            session: self.session.max(other.session),
        }
    }
}

/// What holds at every moment, whatever happened before.
fn bounds(sim: &Sim) {
    let open: Vec<&Live> = sim.sessions.values().filter(|live| !live.has_ended()).collect();
    let targets = open.iter().flat_map(|live| live.object.status.iter().flat_map(|s| &s.targets));
    let live = targets.filter(|target| !target.phase.is_terminal()).count();
    assert!(sim.ledger.len() <= live, "{} slots are held for {live} targets", sim.ledger.len());
    assert!(sim.captures.len() <= live, "{} captures are open for {live} targets", sim.captures.len());
    let remembered: usize = sim.agents.values().map(Agent::remembers).sum();
    assert!(remembered <= live * 3, "agents remember {remembered} for {live} targets");
    for namespace in PERMANENT {
        let own = |live: &&Live| live.object.metadata.namespace.as_deref() == Some(namespace);
        let ended = sim.sessions.values().filter(own).filter(|live| live.has_ended()).count();
        let most = HISTORY + KEPT + FIRED * WORKLOADS;
        assert!(ended <= most, "{ended} ended sessions in {namespace}, of which {most} are kept");
    }
    let known: BTreeSet<&str> =
        sim.sessions.values().filter_map(|live| live.object.metadata.uid.as_deref()).collect();
    assert!(sim.volume.sessions().all(|uid| known.contains(uid.as_str())), "profiles of no session are kept");
    let running = |pod: &PodFacts| {
        pod.attached.iter().filter(|agent| agent.state == AgentContainerState::Running).count()
    };
    for pod in sim.pods.values().flatten() {
        assert!(running(pod) <= 1, "{} has {} agents that run", pod.name, running(pod));
        assert!(pod.attached.len() <= MAX_ATTACHED, "{} had {} agents", pod.name, pod.attached.len());
    }
}

/// So many hours; what there was at its most in each, without the first.
fn hours(sim: &mut Sim, hours: usize) -> Vec<Held> {
    let start = sim.now;
    let mut most = Vec::new();
    for hour in 0..hours {
        let mut held = Held::default();
        for minute in hour * 60..hour * 60 + 60 {
            let until = start + MINUTE * i32::try_from(minute + 1).unwrap();
            while sim.now < until {
                sim.leap(until.duration_since(sim.now).max(crate::sim::TICK));
            }
            sim.disturb(minute);
            bounds(sim);
            if minute % 10 == 0 {
                held = held.most(Held::of(sim));
            }
        }
        most.push(held);
    }
    most.remove(0);
    most
}

/// Nothing is left when everything has ended: nothing new starts, and all that is kept goes.
fn at_the_end(sim: &mut Sim) {
    sim.policies.iter_mut().for_each(|(policy, _)| policy.spec.suspend = true);
    let until = sim.now + SignedDuration::from_hours(2);
    while sim.open() > 0 {
        assert!(sim.now < until, "{} sessions have not ended", sim.open());
        sim.leap(MINUTE);
    }
    let all: Vec<usize> = sim.sessions.keys().copied().collect();
    all.into_iter().for_each(|n| sim.delete(n));
    let remembered: usize = sim.agents.values().map(Agent::remembers).sum();
    assert_eq!((sim.ledger.len(), sim.captures.len(), sim.volume.used()), (0, 0, 0));
    // What an agent is stopping it forgets a moment later.
    assert!(remembered <= 2, "agents remember {remembered}");
    let ledger = format!("{:?}", sim.ledger);
    assert!(ledger.len() < 300, "{ledger}");
}

/// The outcomes of the targets that were deleted, by phase.
fn shown(sim: &Sim, most: &[Held], took: std::time::Duration) {
    let at_most = most.iter().copied().fold(Held::default(), Held::most);
    eprintln!(
        "{} hours in {took:.1?}: {} sessions, {} pods; targets {:?}; at most {at_most:?}; volume {} of \
         {VOLUME} MiB, {} sessions evicted",
        most.len() + 1,
        sim.made,
        sim.pods_made,
        sim.outcomes,
        sim.volume.most >> 20,
        sim.volume.evicted,
    );
}

fn nothing_grows(days: usize) {
    let began = std::time::Instant::now();
    let mut sim = fleet();
    let most = hours(&mut sim, 24 * days);
    // As much as in a morning, whenever it is.
    let morning = most.iter().take(11).copied().fold(Held::default(), Held::most);
    for (hour, held) in most.iter().enumerate().skip(11) {
        let pairs = [
            ("sessions", held.sessions, morning.sessions),
            ("open captures", held.captures, morning.captures),
            ("captures that agents know", held.remembered, morning.remembered),
            ("bytes of the ledger", held.ledger, morning.ledger),
            ("bytes of a policy's status", held.policy, morning.policy),
            ("bytes of a session's status", held.session, morning.session),
        ];
        for (what, now, before) in pairs {
            assert!(now * 4 <= before * 6, "{now} {what} in hour {hour}, at most {before} in the morning");
        }
    }
    assert!(morning.policy < 20_000 && sim.volume.most <= (VOLUME << 20) * 88 / 100, "{morning:?}");
    at_the_end(&mut sim);
    shown(&sim, &most, began.elapsed());
    let of = |phase: TargetPhase| sim.outcomes.get(&phase).copied().unwrap_or(0);
    let all: usize = sim.outcomes.values().sum();
    assert!(all > 1000 * days && of(TargetPhase::Failed) > 10 * days, "{:?}", sim.outcomes);
    assert!(of(TargetPhase::Succeeded) * 10 > all * 7, "{:?}", sim.outcomes);
    assert!(sim.volume.evicted > 0, "the volume was never short of room");
}

#[test]
fn nothing_grows_in_a_day_of_a_fleet() {
    nothing_grows(1);
}

#[test]
#[ignore = "takes a minute: make soak"]
fn nothing_grows_in_a_week_of_a_fleet() {
    nothing_grows(7);
}
