//! Which user does the agent run as? The target's own, or root where that is not known and root is allowed.
//! The same answer for agents that are injected and for those that are attached.
//!
//! The kernel lets a process look into another of the same user *and* group without any capability, as long
//! as the other has no capability that it lacks itself. So a known user that is not root needs nothing, and a
//! root target needs an agent with the runtime's default capabilities; with those an agent can also become
//! whatever user it finds in `/proc`.

use std::collections::BTreeMap;

use fleetprof_crds::Reason;

use super::Skip;
use crate::pod::User;

/// The user that the agent runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AgentUser {
    /// The target's user, without any capability.
    Target {
        /// `runAsUser`, never 0.
        uid: u32,
        /// `runAsGroup`; without it the runtime takes the image's group of that user, else 0.
        gid: Option<u32>,
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

/// The user of an agent beside the container `name` that runs as `user`, in a namespace with this Pod
/// Security level.
///
/// # Errors
/// `UnknownUser` where that agent would have to be root, and the container's author or the namespace forbid
/// it.
pub fn agent_user(name: &str, user: User, level: PodSecurity) -> Result<AgentUser, Skip> {
    if let Some(uid) = user.uid.filter(|uid| *uid != 0) {
        return Ok(AgentUser::Target { uid, gid: user.gid });
    }
    let why = match user.uid {
        Some(_) => format!("the container {name} runs as root"),
        None => format!("the user of the container {name} is unknown"),
    };
    if level == PodSecurity::Restricted {
        return Err(Skip::new(
            Reason::UnknownUser,
            format!("{why}, and the namespace enforces Pod Security restricted"),
        ));
    }
    if user.non_root {
        return Err(Skip::new(
            Reason::UnknownUser,
            format!("{why}, and it sets runAsNonRoot, which also applies to the agent"),
        ));
    }
    Ok(AgentUser::Root)
}

/// A Pod Security level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PodSecurity {
    /// Everything is allowed.
    #[default]
    Privileged,
    /// Known escalations are not.
    Baseline,
    /// Only pods that are hardened.
    Restricted,
}

impl PodSecurity {
    /// The level for a label value; as in the API server, an invalid value means `restricted`.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        match value {
            "privileged" => Self::Privileged,
            "baseline" => Self::Baseline,
            _ => Self::Restricted,
        }
    }

    /// The level that a namespace with these labels enforces; `default` where it names none.
    #[must_use]
    pub fn enforced(namespace_labels: &BTreeMap<String, String>, default: Self) -> Self {
        namespace_labels.get("pod-security.kubernetes.io/enforce").map_or(default, |value| Self::parse(value))
    }
}
