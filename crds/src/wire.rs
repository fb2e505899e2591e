//! What do an agent and the gateway say to each other? JSON over TLS, the agent always dials.
//!
//! ```text
//! agent                                             gateway (the leader)
//!   POST /v1/enroll     (attached agents: ticket, later their credential) ──►  bearer credential of this pod
//!   POST /v1/heartbeat  Heartbeat                 ──►  HeartbeatReply
//!   POST /v1/heartbeat/changes  HeartbeatChanges  ──►  HeartbeatReply (the gateway holds the one before)
//!   GET  /v1/orders?wait=25&agent=INSTANCE        ──►  OrderList (long poll; level-based: every open order, each time)
//!   PUT  /v1/captures/{capture}/{kind}/slices/{seq}  ►  SliceReply (gzip pprof; idempotent)
//! ```
//! A pod can have several agents. Each is told the orders of the containers that it reported; one that does
//! not say which it is, as those of earlier versions, is told all of its pod.
//!
//! Protocol 2 knows kinds of profiles. Protocol 1 knows CPU alone: its orders have one `profile`, and its path
//! for slices is `/v1/captures/{capture}/slices/{seq}`. An order of CPU alone is spoken in both, see
//! [`Order::profiles`] and [`slice_path`], so that agents and gateways of different versions do that together.
//! Every request but `enroll` carries `Authorization: Bearer …`: a sidecar its projected token, an attached
//! agent the credential that its ticket was exchanged for. Errors are [`ErrorReply`] with a fitting status
//! code; 429 and 503 carry `Retry-After`. Clocks differ between machines, so what matters is said as a
//! duration that each side counts by its own clock: [`Order::start_within_ms`],
//! [`CaptureReport::started_ago_ms`]. The absolute times beside them are for those who do not know these
//! words. Reports are levels, not edges: a capture is reported in every heartbeat until the gateway lists it
//! as settled, so nothing is lost when either side restarts.

mod changes;
mod order;
mod reply;
mod signals;

use serde::{Deserialize, Serialize};

use crate::{ProfileKind, Reason};
pub use changes::{HeartbeatChanges, Use, looks_the_same};
pub use order::{Order, OrderList, SliceId, needs, slice_path};
pub use reply::{HeartbeatReply, Stay, Watch};
pub use signals::Signals;

/// Protocol that this build speaks. It grows with each word that is new; what an order needs of an agent is
/// asked by what the order says, see [`needs`].
pub const PROTOCOL: u32 = 2;
/// Most bytes of a heartbeat's body.
pub const MAX_HEARTBEAT_BYTES: usize = 64 * 1024;
/// The same of the agent of a node: it has that of every pod there in one.
pub const MAX_NODE_HEARTBEAT_BYTES: usize = 1024 * 1024;
/// Most containers in the heartbeat of an agent in a pod, and most of its captures.
pub const MAX_ROWS: usize = 64;
/// The same of the agent of a node. A kubelet runs 110 pods by default.
pub const MAX_NODE_ROWS: usize = 1024;
/// Most bytes of one slice as sent (gzip).
pub const MAX_SLICE_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes of one slice unpacked.
pub const MAX_SLICE_UNPACKED: usize = 32 * 1024 * 1024;
/// Most slices of one kind in one capture: 6 minutes in slices of 10 s, and as many again for safety.
pub const MAX_SLICES: u32 = 128;
/// Most samples of one capture: those of 6 minutes of CPU time at 1000 Hz. A report that says more is cut.
pub const MAX_SAMPLES: i64 = 360 * 1_000 * fleetprof_profile::kind::MAX_RUNNING_THREADS;
/// Most offers of one container.
pub const MAX_OFFERS: usize = 16;
/// Header of a slice upload: lower-case hex SHA-256 of the body.
pub const DIGEST_HEADER: &str = "x-fleetprof-sha256";

/// How an agent came into its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AgentMode {
    /// Injected at creation of the pod.
    Sidecar,
    /// Attached as an ephemeral container.
    Ephemeral,
    /// In no pod but its own: it serves the pods of its node.
    Node,
    /// A value of a newer version. Only counted.
    #[serde(other)]
    Unknown,
}

/// An attached agent's request for a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enroll {
    /// The ticket from the container's environment: valid once, for minutes, from this pod's address. Or the
    /// credential that is to be renewed, where the gateway renews, see [`EnrollReply::renew_after_ms`].
    pub ticket: String,
}

/// The credential of an attached agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrollReply {
    /// Bearer credential, kept in memory only.
    pub credential: String,
    /// When it ends, seconds since 1970; enrolment cannot be repeated.
    pub expires_at: i64,
    /// In how many milliseconds it is to be renewed, by an enrolment with this credential as the ticket.
    /// Absent where the gateway renews none, as those of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_after_ms: Option<u64>,
}

/// The report of an agent about itself, the containers of its pod and its captures. Sent every
/// [`HeartbeatReply::next_ms`] and at once when a capture changes its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// Version of the agent, such as `0.1.0`.
    pub version: String,
    /// Protocol that the agent speaks, see [`PROTOCOL`].
    pub protocol: u32,
    /// How it came into the pod.
    pub mode: AgentMode,
    /// Random name of this process of the agent; changes when it is restarted.
    pub instance: String,
    /// The containers whose processes it sees; at most [`MAX_ROWS`], or [`MAX_NODE_ROWS`].
    #[serde(default)]
    pub containers: Vec<ContainerReport>,
    /// Every capture that is not settled; as many at most.
    #[serde(default)]
    pub captures: Vec<CaptureReport>,
    /// When it was sent by the clock of the agent's machine, milliseconds since 1970: tells how far clocks
    /// are apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at_ms: Option<i64>,
    /// The last heartbeat of an attached agent, which ends now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Which heartbeat of this instance it is, so that the next one can tell what changed since then, see
    /// [`HeartbeatReply::holds`]. Absent from agents that tell everything each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

/// A container as the agent sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerReport {
    /// The runtime's id of the container: 64 hex digits, without the `containerd://` prefix.
    pub id: String,
    /// Runtime of its main process: `Python 3.11`, `Native`, `Go 1.26`, `JVM`, `Node.js`, `Ruby`, `.NET`.
    pub runtime: String,
    /// CPU use in % of the container's own limit (of the node's cores where it has none).
    pub cpu_percent: Option<i32>,
    /// Memory use in % of the container's own limit (of the node's memory where it has none).
    pub memory_percent: Option<i32>,
    /// Other figures; absent unless a line for one of them is watched, and from agents of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signals: Option<Signals>,
    /// Its CPU is not limited, so that its use is of the node's cores.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cpu_of_node: bool,
    /// Its memory is not limited, so that its use is of the node's memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_of_node: bool,
    /// Why its processes cannot be profiled, where that is known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// What can be captured of it, each kind once; at most [`MAX_OFFERS`]. Empty from agents of earlier versions,
    /// which capture CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offer>,
}

/// A kind of profile that an agent can capture of a container, or why it cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// The kind.
    pub kind: ProfileKind,
    /// What would capture it, such as `python`.
    pub collector: String,
    /// Why it cannot be captured now, and what helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

impl Offer {
    /// A kind that can be captured.
    #[must_use]
    pub fn good(kind: ProfileKind, collector: &str) -> Self {
        Self { kind, collector: collector.to_owned(), problem: None }
    }

    /// A kind that cannot be captured.
    #[must_use]
    pub fn refused(kind: ProfileKind, collector: &str, problem: Problem) -> Self {
        Self { problem: Some(problem), ..Self::good(kind, collector) }
    }
}

/// A reason and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The reason.
    pub reason: Reason,
    /// Human-readable message.
    pub message: String,
}

/// Where a capture stands, as its agent sees it.
///
/// ```text
/// Accepted ─► Running ─► Uploading ─► Finished
///     └──────────┴───────────┴──────► Failed | Cancelled | Skipped
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CaptureState {
    /// The order is taken; the worker is starting.
    Accepted,
    /// The worker samples the target.
    Running,
    /// Sampling is over; slices are on their way.
    Uploading,
    /// Every slice is stored by the gateway, or there was none.
    Finished,
    /// It failed; what was captured before is uploaded nevertheless.
    Failed,
    /// It was cancelled; what was captured before is uploaded nevertheless.
    Cancelled,
    /// It was never run.
    Skipped,
    /// A value of a newer version. The report is ignored.
    #[serde(other)]
    Unknown,
}

impl CaptureState {
    /// Whether the agent will do nothing more for the capture.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled | Self::Skipped)
    }
}

/// The report of one capture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptureReport {
    /// The capture, as in its order.
    pub capture: String,
    /// Where it stands.
    pub state: CaptureState,
    /// Why it stands there, for the states that need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Runtime of the target, such as `Python 3.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// What captures: `cpython`, `perf`, `ptrace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<String>,
    /// A sentence on why this collector was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector_why: Option<String>,
    /// Samples captured so far; at most [`MAX_SAMPLES`] are believed.
    #[serde(default)]
    pub samples: i64,
    /// Slices written so far; in a final state, all there are.
    #[serde(default)]
    pub slices: u32,
    /// Slices that the gateway has stored.
    #[serde(default)]
    pub uploaded: u32,
    /// When sampling started, seconds since 1970 by the clock of the agent's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<i64>,
    /// When sampling ended, seconds since 1970 by the clock of the agent's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// How long ago sampling started when the heartbeat was sent, in milliseconds. Goes before `started_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ago_ms: Option<u64>,
    /// How long ago sampling ended when the heartbeat was sent, in milliseconds. Goes before `ended_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ago_ms: Option<u64>,
    /// Mean CPU use of the target during the capture, % of its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<i32>,
    /// Highest memory use of the target during the capture, % of its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<i32>,
    /// Share of the CPU limit's periods, of those in which the target ran during the capture, in which it was throttled,
    /// in %. Absent without a CPU limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_percent: Option<i32>,
    /// Processes of the container that have samples in the slices. Absent from agents that captured one
    /// process alone, as the next three fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// CPU time in the slices so far, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiled_ms: Option<i64>,
    /// CPU time that the container's cgroup counted meanwhile, milliseconds; absent where it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_ms: Option<i64>,
    /// A sentence on what a capture that went well left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl CaptureReport {
    /// The report of a capture of which nothing else is known.
    #[must_use]
    pub fn new(capture: impl Into<String>, state: CaptureState) -> Self {
        Self {
            capture: capture.into(),
            state,
            problem: None,
            runtime: None,
            collector: None,
            collector_why: None,
            samples: 0,
            slices: 0,
            uploaded: 0,
            started_at: None,
            ended_at: None,
            started_ago_ms: None,
            ended_ago_ms: None,
            cpu_percent: None,
            memory_percent: None,
            throttled_percent: None,
            processes: None,
            profiled_ms: None,
            used_ms: None,
            note: None,
        }
    }
}

/// The gateway's answer to an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceReply {
    /// Whether the same bytes were stored before.
    pub duplicate: bool,
}

/// An answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorReply {
    /// The reason.
    pub reason: Reason,
    /// Human-readable message.
    pub message: String,
}

#[cfg(test)]
mod protocol_1;
#[cfg(test)]
mod tests;
