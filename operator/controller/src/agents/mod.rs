//! What can controllers ask of the agents, and what do they hear of them? A port: the gateway in this process
//! is one that answers, gateways in processes of their own can be another.
//!
//! ```text
//! sessions, policies, triggers ─ order, close, watch, keep ─► Agents ◄── the gateway (Fleet)
//!               ▲                                           │
//!               └──── known, serving, settled ◄── changes ──┘
//! ```
//! Everything is a level: an order holds until it is closed, a report until it is recorded, and a change says
//! where to look, never what happened. So an implementation may repeat, join or drop what it is told, as long
//! as it ends with the last word.

mod change;
mod facts;

mod view;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use fleetprof_core::capture::CaptureScope;
use fleetprof_core::pod::PodFacts;
use fleetprof_crds::wire::{Order, Watch};
use jiff::Timestamp;

pub use change::{Change, Changes};
pub use facts::{agents, node_agents};
pub use view::{AgentView, CaptureView};

/// The agents, as controllers see them.
pub trait Agents: Debug + Send + Sync {
    /// Orders a capture, or replaces its order and scope; the same again changes nothing. The order's
    /// `capture` is taken from the scope. The scope's `node` says through which gateway it goes, where there
    /// are several.
    fn order(&self, scope: CaptureScope, order: Order);

    /// Closes a capture whose outcome is recorded: its order ends, what is uploaded for it is refused, and
    /// the agent is told to forget it.
    fn close(&self, capture: &str);

    /// All that is known of an open capture.
    fn known(&self, capture: &str) -> Option<CaptureView>;

    /// The open captures, in no order.
    fn open(&self) -> Vec<Arc<CaptureScope>>;

    /// The agents that serve a pod, while they report. Several see different containers of it.
    fn serving(&self, pod_uid: &str) -> Vec<Arc<AgentView>>;

    /// The nodes among these, by name, whose agent reports.
    fn answering(&self, nodes: &mut dyn Iterator<Item = &str>) -> HashSet<String>;

    /// Asks the agents of these pods, by uid, to report at once when a line is crossed, until `until`.
    fn watch(&self, lines: Vec<(String, Watch)>, until: Timestamp);

    /// Lets the attached agents of these pods, by uid, stay until `until`, although they have nothing to do.
    fn keep(&self, pods: Vec<String>, until: Timestamp);

    /// Changes from now on.
    fn changes(&self) -> Changes;

    /// Whether silence of these pods' agents means that they are not there: every gateway that would hear of
    /// one of them has listened for long enough.
    fn settled(&self, pods: &[Arc<PodFacts>], now: Timestamp) -> bool;
}
