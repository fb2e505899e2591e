//! How do agents reach the leader, and what may each of them do? The gateway: four endpoints behind TLS.
//!
//! ```text
//!                 ┌ auth    who calls?  TokenReview (sidecar, node) · credential (attached) ──► AgentId
//! agent ──TLS──►  ├ limits  how much?   per-pod rate · open polls · uploads at once
//!                 ├ POST /v1/enroll      ticket, or an old credential ─► credential
//!                 ├ POST /v1/heartbeat   clean ─► (a node's: by pod) ─► Fleet::heartbeat ─► HeartbeatReply
//!                 ├ GET  /v1/orders      Fleet::orders (sleeps until the pod's orders change)
//!                 └ PUT  /v1/captures/…  scope ─► bounded body ─► SliceSink ─► Fleet::note_stored
//!
//! sessions, policies, triggers ──► Agents (crate::agents), which Fleet implements
//! ```
//! The gateway keeps everything in memory: agents repeat what they know with every heartbeat, and the leader
//! opens again the captures of all live sessions before it calls [`Fleet::set_synced`]. A change of leader
//! loses nothing.

pub mod auth;
mod clean;
mod enroll;
pub mod fleet;
mod fold;
mod heartbeat;
mod limits;
mod metrics;
mod nodes;
mod orders;
mod pacing;
mod rate;
mod refuse;
mod router;
mod sink;
mod slices;
mod state;
#[cfg(test)]
mod tests;

pub use auth::{Identify, IdentifyError, TokenReviews};
pub(crate) use fleet::MAX_AGENTS;
pub use fleet::{Fleet, expire_forever};
pub use fleetprof_core::agent::{PodId, ServedNamespaces};
pub use metrics::GatewayMetrics;
pub use router::router;
pub use sink::{SinkError, SliceSink, Stored};
pub use state::{Clock, GatewayConfig, GatewayState, KnownPods, system_clock};
