//! What is known of agents: which pods have one, what it can do, and as which user it may run.
//!
//! ```text
//! pod + policy + heartbeats ─► presence ─► Answers ─► plan: which of the wanted kinds it captures
//!                                       └► or why there is none
//! ```
//! How long an attached agent stays is decided in `stay.rs`.

mod facts;
mod id;
mod nodes;
mod plan;
mod presence;
mod skip;
mod stay;
mod user;

pub use facts::{AgentFacts, Reach, serves};
pub use id::{AgentId, PodAgent, PodId};
pub use nodes::{NodeAgent, NodeAgents, ServedNamespaces};
pub use plan::{Offer, Planned, plan, unnamed};
pub use presence::{Container, Presence, Terms, World, at_limit, has_agent, presence};
pub use skip::Skip;
pub use stay::{IDLE, INFORMED, Resident, stay};
pub use user::{AgentUser, PodSecurity, agent_user};
