//! What holds in a policy and in a session alike where neither says anything?

use crate::{Duration, ProfileKind};

pub(crate) fn default_profiles() -> Vec<ProfileKind> {
    vec![ProfileKind::Cpu]
}
/// The destination that always exists: the results volume, unless an administrator configured another one of
/// this name.
pub const DEFAULT_DESTINATION: &str = "default";

pub(crate) fn default_destinations() -> Vec<String> {
    vec![DEFAULT_DESTINATION.to_owned()]
}
/// 99, not 100, so that sampling does not run in step with timers of 10 ms.
pub(crate) const fn default_frequency() -> i32 {
    99
}
pub(crate) const fn default_duration() -> Duration {
    Duration::from_secs(120)
}
pub(crate) const fn default_start_deadline() -> Duration {
    Duration::from_secs(60)
}
pub(crate) const fn default_result_timeout() -> Duration {
    Duration::from_secs(900)
}
pub(crate) const fn default_result_deadline() -> Duration {
    Duration::from_secs(86_400)
}
pub(crate) const fn default_ttl() -> Duration {
    Duration::from_secs(604_800)
}
