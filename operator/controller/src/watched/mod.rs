//! What is there in the cluster? The caches of the process, each filled by one watch.

mod cache;
mod guarded;
mod jobs;
pub(crate) mod metadata;
mod metrics;
mod namespaces;
mod nodes;
mod pods;
mod policies;
mod resource_rules;
mod session_index;
mod sessions;
mod watch;

pub use cache::{Cache, Told, Writer};
pub use guarded::{Guarded, Unreadable};
pub use jobs::JobState;
pub use metrics::WatchMetrics;
pub use namespaces::Namespaces;
pub use nodes::NodeState;
pub use pods::{PodChange, Pods};
pub use policies::{PolicyCaches, PolicyObject, Snapshot};
pub use resource_rules::{ResourceCaches, prune};
pub use session_index::{PolicyKey, SessionIndex, SessionKey, policy};
pub use sessions::sessions_of;
pub(crate) use watch::interrupted;
pub use watch::{events, events_where, whole};
