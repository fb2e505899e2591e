//! Which user does a container run as, by the pod's JSON?

use super::raw::{RawContainer, RawPod, boolean, id};
use crate::agent::Skip;
use crate::pod::User;

/// What a pod's JSON says of the user of `target`; what the container says wins over what the pod says.
pub(super) fn user_of(pod: &RawPod<'_>, target: &RawContainer<'_>) -> Result<User, Skip> {
    let contexts = [target.security, pod.security()?];
    let first_id = |key| {
        contexts.iter().flatten().map(|c| id(c, key)).find(|v| !matches!(v, Ok(None))).unwrap_or(Ok(None))
    };
    let first_bool = |key| {
        contexts
            .iter()
            .flatten()
            .map(|c| boolean(c, key))
            .find(|v| !matches!(v, Ok(None)))
            .unwrap_or(Ok(None))
    };
    let non_root = first_bool("runAsNonRoot")? == Some(true);
    Ok(User { uid: first_id("runAsUser")?, gid: first_id("runAsGroup")?, non_root })
}
