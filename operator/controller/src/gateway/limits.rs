//! How much may one agent, one namespace, and how much may all of them, ask for at one time? The sidecar of
//! a pod is one agent, and so is what was attached to each of its containers: none takes from another.

use fleetprof_core::agent::{AgentId, PodAgent};
use jiff::Timestamp;

use super::rate::Buckets;
use crate::permits::{NoPermit, Permit, Permits};
use crate::server::Bodies;

/// Requests of an agent, in a row and a second. One that was cut off uploads dozens of slices in a row.
const REQUESTS: (f64, f64) = (60.0, 10.0);
/// The same of the agent of a node, which uploads for every pod there: a capture in each of 110 pods brings 11 slices a
/// second.
const REQUESTS_OF_NODE: (f64, f64) = (600.0, 100.0);
/// Hanging polls of one agent. It has one; broken connections may hold some more until they end.
const POLLS_EACH: usize = 4;
/// Hanging polls of all agents.
const POLLS: usize = 100_000;
/// Uploads of one agent at one time; it sends one after the other.
const UPLOADS_EACH: usize = 4;
/// MiB of uploads at one time, each rounded up: the memory that their bodies take at most. The sum that it is
/// a part of is in `results/mod.rs`. 32 usual slices (some ten KiB) fit, or 8 of the largest.
const UPLOADS_MIB: usize = 32;
/// MiB of uploads of one namespace at one time: half, so that no tenant can take the other half.
const UPLOADS_OF_NAMESPACE_MIB: usize = UPLOADS_MIB / 2;

/// Bytes of enrolments of one network, and of all, at one time; each has 8 KiB at most.
const ENROLMENTS: (usize, usize) = (256 << 10, 1 << 20);
/// Bytes of heartbeats of one pod, and of all, at one time; each has 64 KiB at most and usually 2 KiB.
const HEARTBEATS: (usize, usize) = (256 << 10, 16 << 20);
/// The same of the agent of a node: 1 MiB at most, and usually some hundred bytes for each container.
const HEARTBEATS_OF_NODE: (usize, usize) = (2 << 20, 16 << 20);

/// The gateway's limits.
pub(super) struct Limits {
    requests: Buckets<String>,
    requests_of_nodes: Buckets<String>,
    pub(super) polls: Permits<String>,
    pub(super) uploads: Uploads,
    pub(super) enrolments: Bodies,
    pub(super) heartbeats: Bodies,
    pub(super) heartbeats_of_nodes: Bodies,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: Buckets::new(REQUESTS.0, REQUESTS.1),
            requests_of_nodes: Buckets::new(REQUESTS_OF_NODE.0, REQUESTS_OF_NODE.1),
            polls: Permits::new(POLLS_EACH, POLLS),
            uploads: Uploads::default(),
            enrolments: Bodies::new(ENROLMENTS.0, ENROLMENTS.1),
            heartbeats: Bodies::new(HEARTBEATS.0, HEARTBEATS.1),
            heartbeats_of_nodes: Bodies::new(HEARTBEATS_OF_NODE.0, HEARTBEATS_OF_NODE.1),
        }
    }
}

impl Limits {
    /// Whether the agent may ask once more now; else in how many seconds.
    pub(super) fn may_ask(&self, agent: &AgentId, now: Timestamp) -> Result<(), u64> {
        let requests = match agent {
            AgentId::Pod(_) => &self.requests,
            AgentId::Node { .. } => &self.requests_of_nodes,
        };
        requests.take(&holder(agent), now)
    }
}

/// Permits for uploads.
pub(super) struct Uploads {
    of_agents: Permits<String>,
    mib: Permits<String>,
}

/// A place for one upload.
pub(super) struct UploadPlace(
    #[expect(dead_code, reason = "held, and given back when dropped")] [Permit<String>; 2],
);

/// Why there is no place for an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoUpload {
    Agent,
    Namespace,
    Anyone,
}

impl Default for Uploads {
    fn default() -> Self {
        Self {
            of_agents: Permits::new(UPLOADS_EACH, UPLOADS_MIB),
            mib: Permits::new(UPLOADS_OF_NAMESPACE_MIB, UPLOADS_MIB),
        }
    }
}

impl Uploads {
    /// A place for a body of at most `bytes` for a capture in `namespace`.
    pub(super) fn take(&self, agent: &AgentId, namespace: &str, bytes: u64) -> Result<UploadPlace, NoUpload> {
        let refused =
            |holder| move |denied| if denied == NoPermit::ForHolder { holder } else { NoUpload::Anyone };
        let of_agent = self.of_agents.take(&holder(agent)).map_err(refused(NoUpload::Agent))?;
        let mib =
            self.mib.take_many(&namespace.to_owned(), mib(bytes)).map_err(refused(NoUpload::Namespace))?;
        Ok(UploadPlace([of_agent, mib]))
    }
}

/// For whom requests, polls and uploads are counted: the uid of the agent's pod, and the container where the
/// agent speaks for one alone. Neither holds a slash.
pub(super) fn holder(agent: &AgentId) -> String {
    match agent {
        AgentId::Pod(PodAgent { pod, container: Some(container) }) => format!("{}/{container}", pod.uid),
        _ => agent.own_pod().uid.clone(),
    }
}

/// Whole MiB, at least one.
fn mib(bytes: u64) -> usize {
    bytes.div_ceil(1024 * 1024).max(1) as usize
}

#[cfg(test)]
mod tests {
    use fleetprof_core::agent::PodId;

    use super::*;

    #[test]
    fn a_body_weighs_at_least_a_mib() {
        for (bytes, wanted) in [(0, 1), (1, 1), (1 << 20, 1), ((1 << 20) + 1, 2), (4 << 20, 4)] {
            assert_eq!(mib(bytes), wanted, "{bytes}");
        }
    }

    #[test]
    fn no_pod_no_namespace_and_not_all_of_them_take_more_than_their_share() {
        let pod = |namespace: &str, n: usize| {
            PodAgent::from(PodId {
                namespace: namespace.into(),
                name: "p".into(),
                uid: format!("{namespace}-{n}"),
            })
        };
        let of = |container: &str| PodAgent { container: Some(container.into()), ..pod("bank", 1) };
        let take = |uploads: &Uploads, agent: PodAgent, bytes: u64| {
            let namespace = agent.pod.namespace.clone();
            uploads.take(&AgentId::Pod(agent), &namespace, bytes)
        };
        let uploads = Uploads::default();
        let large = 4 << 20;
        let shop: Vec<_> = (0..4).map(|n| take(&uploads, pod("shop", n), large).ok().unwrap()).collect();
        assert_eq!(take(&uploads, pod("shop", 9), 1).err(), Some(NoUpload::Namespace));
        let small: Vec<_> = (0..4).map(|_| take(&uploads, pod("bank", 1), 1).ok().unwrap()).collect();
        assert_eq!(take(&uploads, pod("bank", 1), 1).err(), Some(NoUpload::Agent));
        let attached: Vec<_> = (0..4).map(|_| take(&uploads, of("app"), 1).ok().unwrap()).collect();
        assert_eq!(take(&uploads, of("app"), 1).err(), Some(NoUpload::Agent));
        assert!(take(&uploads, of("proxy"), 1).is_ok(), "one container takes nothing from another");
        drop(attached);
        let more: Vec<_> = (0..3).map(|n| take(&uploads, pod("zoo", n), large).ok().unwrap()).collect();
        assert_eq!(take(&uploads, pod("farm", 1), 1).err(), Some(NoUpload::Anyone));
        drop((shop, small, more));
        assert!(
            (0..4).all(|n| take(&uploads, pod("shop", n), large).is_ok()),
            "what was refused took nothing"
        );
    }
}
