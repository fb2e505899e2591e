//! What does the fleet answer, and what is to be told to whom afterwards?

use std::sync::Arc;

use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::wire::{HeartbeatReply, OrderList};

use crate::agents::Change;

/// Whether an agent may upload for a capture.
#[derive(Clone, Debug)]
pub(in crate::gateway) enum Admission {
    /// It may, so many slices.
    Open(Arc<CaptureScope>, u32),
    /// The capture was of its pod and is closed.
    Settled,
    /// There is no such capture of what it speaks for.
    Unknown,
    /// It is not known yet.
    NotSynced,
}

/// What an agent is to do.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// It is not known yet which captures are open.
    NotSynced,
    /// The agent was not seen yet, so that nobody knows what it sees.
    Stranger,
    /// These orders.
    Orders(OrderList),
}

/// More agents than are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct FleetFull;

/// What is to be told to whom after a change.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Uids of pods whose orders changed.
    pub(super) wake: Vec<String>,
    pub(super) changes: Vec<Change>,
}

/// The outcome of a heartbeat.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Heard {
    pub(super) reply: HeartbeatReply,
    /// Reports of captures that are not this agent's.
    pub(super) ignored: usize,
    pub(super) effects: Effects,
}
