//! What did an agent say last, and what is known of a capture?

use std::sync::Arc;

use fleetprof_core::agent::PodAgent;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::wire::{CaptureReport, Heartbeat};
use jiff::Timestamp;

/// An agent that reports.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentView {
    /// Which pod it serves, and which of its containers.
    pub agent: PodAgent,
    /// Its last heartbeat, cleaned: texts are bounded and printable, numbers are in range.
    pub heartbeat: Heartbeat,
    /// When that heartbeat came.
    pub received: Timestamp,
}

/// What is known of an open capture.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureView {
    /// What it is of.
    pub scope: Arc<CaptureScope>,
    /// The last report of the pod's agent; a final state is never followed by another state.
    pub report: Option<CaptureReport>,
    /// When that report came.
    pub reported: Option<Timestamp>,
    /// Which process of the agent reported, see [`Heartbeat::instance`].
    pub instance: Option<String>,
    /// Uploads that were stored since this leader opened the capture, duplicates included.
    pub uploads: u32,
}
