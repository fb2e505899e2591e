//! Does the gateway hold what an agent told last, when the agent tells only what changed?

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetprof_core::pod::PodFacts;
use fleetprof_crds::wire::{
    AgentMode, CaptureState, ContainerReport, Heartbeat, HeartbeatChanges, HeartbeatReply, Offer, Problem,
};
use fleetprof_crds::{ProfileKind, Reason};
use proptest::prelude::*;
use serde_json::json;

use super::rig::{Answer, Rig, beat, post, report, token, uid};

/// Pods of the node, each with two containers; the last one is in a namespace that is not served.
const PODS: [&str; 4] = ["a", "bank.b", "c", "kube-system.d"];

fn container(pod: &str, n: usize) -> String {
    format!("id-{pod}-{n}")
}

fn pod(name: &str) -> Arc<PodFacts> {
    let namespace = name.split_once('.').map_or("shop", |(namespace, _)| namespace);
    let status = |n: usize| {
        let id = format!("containerd://{}", container(name, n));
        json!({"name": format!("c{n}"), "containerID": id, "image": "i",
            "imageID": "i", "ready": true, "restartCount": 0, "state": {"running": {}}})
    };
    let pod = json!({
        "metadata": {"namespace": namespace, "name": format!("pod-{name}"), "uid": uid(name)},
        "spec": {"containers": [{"name": "c0"}, {"name": "c1"}], "nodeName": "n1"},
        "status": {"phase": "Running", "containerStatuses": [status(0), status(1)]},
    });
    Arc::new(PodFacts::of(&serde_json::from_value(pod).unwrap()).unwrap())
}

/// A container of one of these sorts.
fn row(id: &str, sort: u8) -> ContainerReport {
    let problem = Problem { reason: Reason::PermissionDenied, message: "m".repeat(usize::from(sort) * 30) };
    ContainerReport {
        id: id.into(),
        runtime: ["Native", "Go 1.26", "JVM"][usize::from(sort) % 3].into(),
        problem: (sort % 2 == 1).then(|| problem.clone()),
        offers: vec![
            Offer::good(ProfileKind::Cpu, "native"),
            Offer::refused(ProfileKind::Wall, "native-wall", problem),
        ],
        ..beat(vec![]).containers[0].clone()
    }
}

/// An agent: what it sees, and which heartbeat it was told is held.
struct Agent {
    caller: &'static str,
    mode: AgentMode,
    instance: String,
    rows: BTreeMap<String, ContainerReport>,
    count: u64,
    held: Option<(u64, Vec<ContainerReport>)>,
    /// Heartbeats that were told as changes.
    changes: usize,
}

impl Agent {
    fn new(caller: &'static str, mode: AgentMode) -> Self {
        let instance = "one".into();
        Self { caller, mode, instance, rows: BTreeMap::new(), count: 0, held: None, changes: 0 }
    }

    fn beat(&self) -> Heartbeat {
        Heartbeat {
            instance: self.instance.clone(),
            mode: self.mode,
            containers: self.rows.values().cloned().collect(),
            number: Some(self.count),
            ..beat(vec![])
        }
    }

    /// Tells how things are. Where the answer is lost, it goes on as if it had not sent anything.
    async fn tell(&mut self, rig: &Rig, answer_is_lost: bool) {
        self.count += 1;
        let (beat, rows) = (self.beat(), self.rows.values().cloned().collect::<Vec<_>>());
        let changed =
            self.held.as_ref().map(|(since, rows)| HeartbeatChanges::between(*since, rows, beat.clone()));
        let mut answer = match &changed {
            Some(changes) => send_changes(rig, self.caller, changes).await,
            None => rig.heartbeat(self.caller, &beat).await,
        };
        match answer.status.as_u16() {
            409 => answer = rig.heartbeat(self.caller, &beat).await,
            _ => self.changes += usize::from(changed.is_some()),
        }
        let reply: HeartbeatReply = answer.accepted();
        if !answer_is_lost {
            self.held = reply.holds.map(|number| (number, rows));
        }
    }
}

async fn send_changes(rig: &Rig, caller: &str, changes: &HeartbeatChanges) -> Answer {
    let body = serde_json::to_vec(changes).unwrap();
    rig.send(post("/v1/heartbeat/changes", Some(&token(caller)), body)).await
}

/// What is known of a pod, in the order of the ids.
fn known(rig: &Rig, pod: &str) -> Vec<(AgentMode, Vec<ContainerReport>)> {
    let view = |view: Arc<crate::agents::AgentView>| {
        let mut rows = view.heartbeat.containers.clone();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        (view.received == rig.now()).then_some((view.heartbeat.mode, rows))
    };
    rig.fleet.agents_of(&uid(pod)).into_iter().filter_map(view).collect()
}

#[derive(Clone, Debug)]
enum Event {
    /// A container is of another sort now, or new.
    Changed(u8, u8),
    /// A container uses more or less.
    Busy(u8, i32),
    Ended(u8),
    Told,
    AnswerLost,
    /// The API server knows these pods of the node.
    Statuses(u8),
    NewLeader,
    Restarted,
    /// Nothing is heard for so long that the agent is forgotten.
    Silence,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u8..10, 0_u8..6).prop_map(|(at, sort)| Event::Changed(at, sort)),
        4 => (0_u8..10, 0_i32..4).prop_map(|(at, cpu)| Event::Busy(at, cpu)),
        1 => (0_u8..10).prop_map(Event::Ended),
        6 => Just(Event::Told),
        1 => Just(Event::AnswerLost),
        1 => (0_u8..16).prop_map(Event::Statuses),
        1 => Just(Event::NewLeader),
        1 => Just(Event::Restarted),
        1 => Just(Event::Silence),
    ]
}

/// Eight containers of the pods, and two that are of none.
fn id(at: u8) -> String {
    let at = usize::from(at);
    PODS.get(at / 2).map_or_else(|| format!("stranger-{at}"), |pod| container(pod, at % 2))
}

fn set_statuses(rig: &Rig, mask: u8) {
    let pods =
        PODS.iter().enumerate().filter(|(n, _)| mask & (1 << n) != 0).map(|(_, name)| pod(name)).collect();
    rig.homes.nodes.lock().unwrap().insert("n1".into(), pods);
}

async fn happens(event: Event, agent: &mut Agent, rig: &mut Rig, statuses: &mut u8) -> bool {
    match event {
        Event::Changed(at, sort) => drop(agent.rows.insert(id(at), row(&id(at), sort))),
        Event::Busy(at, cpu) => {
            if let Some(row) = agent.rows.get_mut(&id(at)) {
                row.cpu_percent = Some(cpu);
            }
        }
        Event::Ended(at) => drop(agent.rows.remove(&id(at))),
        Event::Told => agent.tell(rig, false).await,
        Event::AnswerLost => agent.tell(rig, true).await,
        Event::Statuses(mask) => {
            *statuses = mask;
            set_statuses(rig, mask);
        }
        Event::NewLeader => {
            *rig = Rig::new();
            set_statuses(rig, *statuses);
        }
        Event::Restarted => {
            (agent.instance, agent.count, agent.held) = (format!("{}x", agent.instance), 0, None)
        }
        Event::Silence => {
            rig.pass(1000);
            rig.fleet.expire(rig.now());
        }
    }
    matches!(event, Event::Told | Event::AnswerLost)
}

/// After each heartbeat the gateway holds what one holds that was told everything just now.
async fn holds_what_was_told(mut agent: Agent, events: Vec<Event>) -> Result<usize, TestCaseError> {
    let (mut rig, mut statuses) = (Rig::new(), 0b1111);
    set_statuses(&rig, statuses);
    for event in events {
        rig.pass(1);
        if !happens(event, &mut agent, &mut rig, &mut statuses).await {
            continue;
        }
        let fresh = Rig::new();
        set_statuses(&fresh, statuses);
        let _: HeartbeatReply =
            fresh.heartbeat(agent.caller, &Heartbeat { number: None, ..agent.beat() }).await.accepted();
        for pod in PODS {
            prop_assert_eq!(known(&rig, pod), known(&fresh, pod), "{}", pod);
        }
    }
    Ok(agent.changes)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn of_a_node_what_is_held_is_what_was_told_last(events in proptest::collection::vec(event(), 0..80)) {
        block_on(holds_what_was_told(Agent::new("node-n1", AgentMode::Node), events))?;
    }

    #[test]
    fn of_a_sidecar_what_is_held_is_what_was_told_last(events in proptest::collection::vec(event(), 0..80)) {
        block_on(holds_what_was_told(Agent::new("a", AgentMode::Sidecar), events))?;
    }
}

#[tokio::test]
async fn an_agent_at_rest_sends_changes_and_they_are_small() {
    let rig = Rig::new();
    set_statuses(&rig, 0b1111);
    let mut agent = Agent::new("node-n1", AgentMode::Node);
    agent.rows = (0..8).map(|at| (id(at), row(&id(at), at))).collect();
    for _ in 0..5 {
        agent.tell(&rig, false).await;
    }
    assert_eq!(agent.changes, 4);
    assert_eq!(known(&rig, "a")[0].1.len(), 2);
}

#[tokio::test]
async fn changes_of_a_heartbeat_that_is_not_held_change_nothing_and_are_refused() {
    let rig = Rig::new();
    let mut agent = Agent::new("a", AgentMode::Sidecar);
    agent.rows.insert("id".into(), row("id", 0));
    agent.tell(&rig, false).await;
    let before = known(&rig, "a");
    let changes = |since: u64, instance: &str| {
        let heartbeat = Heartbeat { instance: instance.into(), containers: vec![], ..agent.beat() };
        HeartbeatChanges { since, heartbeat, uses: vec![], gone: vec!["id".into()] }
    };
    for (since, instance, caller) in [(2, "one", "a"), (0, "one", "a"), (1, "two", "a"), (1, "one", "b")] {
        send_changes(&rig, caller, &changes(since, instance)).await.refused(409, Reason::GatewayStarting);
    }
    assert_eq!(known(&rig, "a"), before);
    let _: HeartbeatReply = send_changes(&rig, "a", &changes(1, "one")).await.accepted();
    assert_eq!(known(&rig, "a")[0].1, []);
}

#[tokio::test]
async fn captures_are_reported_in_full_beside_changes() {
    let rig = Rig::new();
    rig.open("c", "a");
    let mut agent = Agent::new("a", AgentMode::Sidecar);
    agent.rows.insert("c0ffee".into(), row("c0ffee", 0));
    agent.tell(&rig, false).await;
    let (since, rows) = agent.held.clone().unwrap();
    let captures = vec![report("c", CaptureState::Running)];
    let changes =
        HeartbeatChanges::between(since, &rows, Heartbeat { captures, number: Some(2), ..agent.beat() });
    let _: HeartbeatReply = send_changes(&rig, "a", &changes).await.accepted();
    assert_eq!(rig.fleet.capture("c").unwrap().report.unwrap().state, CaptureState::Running);
}

#[tokio::test]
async fn what_is_cut_is_told_in_full_each_time() {
    let rig = Rig::new();
    let mut agent = Agent::new("a", AgentMode::Sidecar);
    agent.rows = (0..100).map(|n| (format!("id-{n}"), row(&format!("id-{n}"), 5))).collect();
    agent.tell(&rig, false).await;
    assert!(agent.held.is_none(), "not all of it is kept");
    agent.rows.retain(|id, _| id == "id-1");
    agent.tell(&rig, false).await;
    assert!(agent.held.is_some());
}

#[tokio::test]
async fn of_an_attached_agent_changes_count_for_its_own_container_alone() {
    let rig = Rig::new();
    let credential = rig.credential("a", "app");
    let send =
        async |path: &str, body: Vec<u8>| -> Answer { rig.send(post(path, Some(&credential), body)).await };
    let rows = vec![row("c0ffee", 0), row("id-proxy", 0)];
    let whole = Heartbeat { number: Some(1), containers: rows.clone(), ..beat(vec![]) };
    let reply: HeartbeatReply = send("/v1/heartbeat", serde_json::to_vec(&whole).unwrap()).await.accepted();
    assert_eq!(reply.holds, Some(1));
    let next = vec![row("c0ffee", 2), row("id-proxy", 2), row("id-new", 1)];
    let next = Heartbeat { number: Some(2), containers: next, ..beat(vec![]) };
    let changes = serde_json::to_vec(&HeartbeatChanges::between(1, &rows, next)).unwrap();
    let reply: HeartbeatReply = send("/v1/heartbeat/changes", changes).await.accepted();
    assert_eq!(reply.holds, Some(2));
    assert_eq!(rig.fleet.agents_of(&uid("a"))[0].heartbeat.containers, [row("c0ffee", 2)]);
}
