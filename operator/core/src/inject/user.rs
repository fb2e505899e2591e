//! Which user does the agent run as? The target's own, or root where that is not known and root is allowed.
//!
//! The kernel lets a process look into another of the same user *and* group without any capability, as long as the other has no
//! capability that it lacks itself. So a known user that is not root needs nothing, and a root target needs an agent with the
//! runtime's default capabilities; with those an agent can also become whatever user it finds in `/proc`.

use fleetprof_crds::Reason;

use super::raw::{RawContainer, RawPod, boolean, id};
use super::{PodSecurity, Skip};

/// The user that the agent runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentUser {
    /// The target's user, without any capability.
    Target {
        /// `runAsUser`, never 0.
        uid: i64,
        /// `runAsGroup`; without it the runtime takes the image's group of that user, else 0.
        gid: Option<i64>,
    },
    /// Root with the runtime's default capabilities.
    Root,
}

impl std::fmt::Display for AgentUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Target { uid, gid: Some(gid) } => write!(f, "{uid}:{gid}"),
            Self::Target { uid, gid: None } => write!(f, "{uid}"),
            Self::Root => f.write_str("root"),
        }
    }
}

/// The user for an agent beside `target`; what the container says wins over what the pod says.
pub(super) fn agent_user(pod: &RawPod<'_>, target: &RawContainer<'_>, level: PodSecurity) -> Result<AgentUser, Skip> {
    let contexts = [target.security, pod.security()?];
    let first_id = |key| contexts.iter().flatten().map(|c| id(c, key)).find(|v| !matches!(v, Ok(None))).unwrap_or(Ok(None));
    let first_bool = |key| contexts.iter().flatten().map(|c| boolean(c, key)).find(|v| !matches!(v, Ok(None))).unwrap_or(Ok(None));
    let (uid, gid, non_root) = (first_id("runAsUser")?, first_id("runAsGroup")?, first_bool("runAsNonRoot")?);
    if let Some(uid) = uid.filter(|uid| *uid != 0) {
        return Ok(AgentUser::Target { uid, gid });
    }
    let user = if uid.is_some() { "runs as root" } else { "does not say which user it runs as" };
    if level == PodSecurity::Restricted {
        return Err(unknown(target, user, "the namespace enforces Pod Security restricted"));
    }
    if non_root == Some(true) {
        return Err(unknown(target, user, "it demands runAsNonRoot, which an agent beside it keeps to"));
    }
    Ok(AgentUser::Root)
}

fn unknown(target: &RawContainer<'_>, user: &str, rule: &str) -> Skip {
    Skip::new(Reason::UnknownUser, format!("the container {} {user}, and {rule}", target.name))
}
