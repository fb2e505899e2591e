//! What is known of agents, and which user may one run as?

mod facts;
mod skip;
mod user;

pub use facts::AgentFacts;
pub use skip::Skip;
pub use user::{AgentUser, PodSecurity, agent_user};
