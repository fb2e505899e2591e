//! What is there in the cluster? The caches of the process, each filled by one watch.

mod cache;
mod namespaces;
mod pods;
mod policies;
mod sessions;

pub use cache::{Cache, Writer};
pub use namespaces::Namespaces;
pub use pods::{PodChange, Pods};
pub use policies::{PolicyCaches, PolicyObject, Snapshot};
pub use sessions::sessions_of;
