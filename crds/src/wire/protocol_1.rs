//! Do builds that spoke protocol 1 and this build read each other, agents and gateways?
//!
//! What such a build says is in `crds/protocol-1`: bytes that its own types wrote. What it reads is [`first`]: its
//! types, which knew no other words and no other values than these.

use serde_json::{Value, from_str, json, to_string};

use super::*;

/// The types of protocol 1, as they read: words that must be there, and values that there were.
mod first {
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    pub enum AgentMode {
        Sidecar,
        Ephemeral,
    }

    #[derive(Debug, Deserialize, PartialEq, Clone, Copy)]
    pub enum CaptureState {
        Accepted,
        Running,
        Uploading,
        Finished,
        Failed,
        Cancelled,
        Skipped,
    }

    /// Reasons that are not known were read as such.
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Problem {
        pub reason: String,
        pub message: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct Heartbeat {
        pub version: String,
        pub protocol: u32,
        pub mode: AgentMode,
        pub instance: String,
        pub containers: Vec<ContainerReport>,
        pub captures: Vec<CaptureReport>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct ContainerReport {
        pub id: String,
        pub runtime: String,
        pub cpu_percent: Option<i32>,
        pub memory_percent: Option<i32>,
        #[serde(default)]
        pub cpu_of_node: bool,
        #[serde(default)]
        pub memory_of_node: bool,
        #[serde(default)]
        pub problem: Option<Problem>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct CaptureReport {
        pub capture: String,
        pub state: CaptureState,
        #[serde(default)]
        pub problem: Option<Problem>,
        #[serde(default)]
        pub samples: i64,
        #[serde(default)]
        pub slices: u32,
        #[serde(default)]
        pub uploaded: u32,
        #[serde(default)]
        pub started_at: Option<i64>,
        #[serde(default)]
        pub ended_at: Option<i64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct HeartbeatReply {
        pub next_ms: u64,
        #[serde(default)]
        pub settled: Vec<String>,
        #[serde(default)]
        pub watch: Option<Watch>,
        #[serde(default)]
        pub ca_bundle: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct Watch {
        #[serde(default)]
        pub cpu_percent: Option<i32>,
        #[serde(default)]
        pub memory_percent: Option<i32>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct OrderList {
        pub version: u64,
        pub orders: Vec<Order>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    pub struct Order {
        pub capture: String,
        pub session: String,
        pub protocol: u32,
        pub container_id: String,
        pub profile: String,
        pub frequency_hz: u32,
        pub duration_ms: u64,
        pub slice_ms: u64,
        pub start_before: i64,
        #[serde(default)]
        pub cancel: bool,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct EnrollReply {
        pub credential: String,
        pub expires_at: i64,
    }
}

const ORDERS: &str = include_str!("../../protocol-1/orders.json");
const HEARTBEAT: &str = include_str!("../../protocol-1/heartbeat.json");

fn order(profiles: &[ProfileKind]) -> Order {
    let order = Order {
        capture: "c".into(),
        session: "s".into(),
        protocol: 0,
        container_id: "4f0c".repeat(16),
        profiles: profiles.to_vec(),
        frequency_hz: 99,
        duration_ms: 10_000,
        slice_ms: 10_000,
        start_before: 1_800_000_060,
        start_within_ms: Some(60_000),
        cancel: false,
    };
    Order { protocol: needs(&order), ..order }
}

#[test]
fn this_gateway_reads_what_an_agent_of_protocol_1_says() {
    let heartbeat: Heartbeat = from_str(HEARTBEAT).unwrap();
    assert_eq!((heartbeat.protocol, heartbeat.mode), (1, AgentMode::Sidecar));
    assert_eq!((heartbeat.number, heartbeat.leaving, heartbeat.sent_at_ms), (None, false, None));
    let [python, other] = &heartbeat.containers[..] else { panic!("{heartbeat:?}") };
    assert_eq!((python.cpu_percent, python.cpu_of_node, &python.offers[..]), (Some(93), true, &[][..]));
    assert_eq!(other.problem.as_ref().map(|problem| problem.reason), Some(Reason::PermissionDenied));
    let [finished, failed] = &heartbeat.captures[..] else { panic!("{heartbeat:?}") };
    let known = CaptureReport {
        runtime: Some("Python 3.11".into()),
        collector: Some("py-spy".into()),
        collector_why: Some("the target runs CPython 3.11.7".into()),
        samples: 990,
        slices: 2,
        uploaded: 2,
        started_at: Some(1_800_000_000),
        ended_at: Some(1_800_000_010),
        cpu_percent: Some(93),
        memory_percent: Some(41),
        ..CaptureReport::new("c", CaptureState::Finished)
    };
    assert_eq!(finished, &known);
    assert_eq!((failed.state, failed.processes, failed.started_ago_ms), (CaptureState::Failed, None, None));
    assert_eq!(failed.throttled_percent, None);
    // What it does not know it does not say either, so that nothing is made up on the way.
    assert_eq!(
        from_str::<Value>(&to_string(&heartbeat).unwrap()).unwrap(),
        from_str::<Value>(HEARTBEAT).unwrap()
    );
    let enroll: Enroll = from_str(include_str!("../../protocol-1/enroll.json")).unwrap();
    assert_eq!(enroll.ticket, "ticket-of-the-pod");
}

#[test]
fn this_agent_reads_what_a_gateway_of_protocol_1_says() {
    let list: OrderList = from_str(ORDERS).unwrap();
    let wanted = Order { start_within_ms: None, ..order(&[ProfileKind::Cpu]) };
    assert_eq!((list.version, &list.orders[..]), (7, &[wanted][..]));
    assert_eq!(
        slice_path("c", &list.orders[0].profiles, SliceId::new(ProfileKind::Cpu, 0)),
        "/v1/captures/c/slices/0",
        "its path for slices"
    );
    let reply: HeartbeatReply = from_str(include_str!("../../protocol-1/heartbeat-reply.json")).unwrap();
    assert_eq!((reply.next_ms, &reply.settled[..], reply.holds), (1000, &["b".to_owned()][..], None));
    assert_eq!(reply.watch, Some(Watch { cpu_percent: Some(80), ..Watch::default() }));
    assert!(reply.stay.is_none() && reply.watches.is_empty() && reply.ca_bundle.is_some());
    let enrolled: EnrollReply = from_str(include_str!("../../protocol-1/enroll-reply.json")).unwrap();
    assert_eq!((enrolled.expires_at, enrolled.renew_after_ms), (1_800_000_900, None));
    let error: ErrorReply = from_str(include_str!("../../protocol-1/error.json")).unwrap();
    assert_eq!(error.reason, Reason::AgentLost);
    let slice: SliceReply = from_str(include_str!("../../protocol-1/slice-reply.json")).unwrap();
    assert!(slice.duplicate);
}

#[test]
fn an_agent_of_protocol_1_reads_what_this_gateway_says() {
    let (cpu, both) = (order(&[ProfileKind::Cpu]), order(&[ProfileKind::Cpu, ProfileKind::Wall]));
    let said = to_string(&OrderList { version: 7, orders: vec![cpu, both] }).unwrap();
    let read: first::OrderList = from_str(&said).unwrap();
    let old: first::OrderList = from_str(ORDERS).unwrap();
    assert_eq!(
        (read.version, &read.orders[0]),
        (7, &old.orders[0]),
        "an order of CPU is the one that it knows"
    );
    assert_eq!(read.orders[1].protocol, 2, "it refuses what it cannot do by the protocol");
    let reply = HeartbeatReply {
        next_ms: 1000,
        settled: vec!["b".into()],
        watch: Some(Watch { cpu_percent: Some(80), memory_percent: Some(90), signals: signals() }),
        watches: [("4f0c".repeat(16), Watch::default())].into(),
        ca_bundle: Some("PEM".into()),
        holds: Some(3),
        stay: Some(Stay { idle_ms: Some(60_000) }),
    };
    let read: first::HeartbeatReply = from_str(&to_string(&reply).unwrap()).unwrap();
    let watch = read.watch.unwrap();
    assert_eq!((read.next_ms, read.settled, read.ca_bundle.unwrap()), (1000, reply.settled, "PEM".into()));
    assert_eq!((watch.cpu_percent, watch.memory_percent), (Some(80), Some(90)));
    let enrolled = EnrollReply { credential: "x".into(), expires_at: 7, renew_after_ms: Some(5) };
    let read: first::EnrollReply = from_str(&to_string(&enrolled).unwrap()).unwrap();
    assert_eq!((read.credential.as_str(), read.expires_at), ("x", 7));
}

fn signals() -> Signals {
    Signals { throttled_percent: Some(7), ..Signals::default() }
}

/// A heartbeat with every word that there is.
fn heartbeat() -> Heartbeat {
    let problem = || Some(Problem { reason: Reason::OtherProfiler, message: "a recording runs".into() });
    let container = ContainerReport {
        id: "4f0c".repeat(16),
        runtime: "JVM".into(),
        cpu_percent: Some(93),
        memory_percent: None,
        cpu_of_node: true,
        memory_of_node: true,
        signals: Some(signals()),
        problem: problem(),
        offers: vec![Offer::good(ProfileKind::Heap, "jvm-heap")],
    };
    let report = |state| CaptureReport {
        problem: problem(),
        samples: 3,
        slices: 2,
        uploaded: 1,
        started_at: Some(5),
        started_ago_ms: Some(9),
        ended_at: Some(6),
        ended_ago_ms: Some(8),
        throttled_percent: Some(30),
        processes: Some(4),
        profiled_ms: Some(7),
        used_ms: Some(8),
        note: Some("a note".into()),
        ..CaptureReport::new("c", state)
    };
    use CaptureState::{Accepted, Cancelled, Failed, Finished, Running, Skipped, Uploading};
    let states = [Accepted, Running, Uploading, Finished, Failed, Cancelled, Skipped];
    Heartbeat {
        version: "1.0.0".into(),
        protocol: PROTOCOL,
        mode: AgentMode::Ephemeral,
        instance: "i".into(),
        containers: vec![container],
        captures: states.map(report).to_vec(),
        sent_at_ms: Some(1),
        leaving: true,
        number: Some(3),
    }
}

#[test]
fn a_gateway_of_protocol_1_reads_what_this_agent_says() {
    let read: first::Heartbeat = from_str(&to_string(&heartbeat()).unwrap()).unwrap();
    assert_eq!((read.protocol, read.mode), (PROTOCOL, first::AgentMode::Ephemeral));
    assert_eq!((read.version.as_str(), read.instance.as_str()), ("1.0.0", "i"));
    let container = &read.containers[0];
    assert!(container.cpu_of_node && container.memory_of_node, "{container:?}");
    assert_eq!((container.runtime.as_str(), container.cpu_percent), ("JVM", Some(93)));
    use first::CaptureState::{Accepted, Cancelled, Failed, Finished, Running, Skipped, Uploading};
    let states: Vec<first::CaptureState> = read.captures.iter().map(|report| report.state).collect();
    assert_eq!(states, [Accepted, Running, Uploading, Finished, Failed, Cancelled, Skipped]);
    let report = &read.captures[0];
    assert_eq!((report.samples, report.slices, report.uploaded), (3, 2, 1));
    assert_eq!((report.started_at, report.ended_at), (Some(5), Some(6)), "not only what newer gateways read");
    assert_eq!(report.problem.as_ref().unwrap().reason, "OtherProfiler");
    let ticket = to_string(&Enroll { ticket: "t".into() }).unwrap();
    assert_eq!(from_str::<Value>(&ticket).unwrap(), json!({"ticket": "t"}));
}
