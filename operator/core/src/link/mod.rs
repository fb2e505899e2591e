//! Which apps does a policy link, and what keeps the others out?
//!
//! ```text
//! pods + agents ─► pods (one link a pod) ─► apps (one row a workload) ─► status.linkedApps
//! ```

mod apps;
mod observed;
mod pods;
mod samples;

pub use apps::{fill, is_quiet};
pub use observed::Observed;
pub use pods::{PodLink, pods};
