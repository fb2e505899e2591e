//! What does the operator need to know about a pod? A reduced view of about 1 KB, computed when the pod
//! changes.

mod injection;
mod shared;
mod size;
mod workload;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use fleetprof_crds::budget::Budget;
use fleetprof_crds::policy::Containers;
use fleetprof_crds::quantity::{bytes, millicores};
use fleetprof_crds::{Reason, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodSpec};

use crate::container::{barred_by, choose_container};
pub(crate) use workload::{controller, workload};

pub use shared::SharedFacts;
pub use workload::{Owner, RevisionObject, Workload};

/// Most bytes of slices that an attached agent keeps: those of days of hourly captures.
const MAX_SPOOL: u64 = 64 << 20;

/// Reduced view of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Node it is bound to; empty before scheduling.
    pub node: Arc<str>,
    /// Labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The workload the pod belongs to.
    pub workload: Arc<Workload>,
    /// Its controller; `None` for a standalone pod.
    pub owner: Option<Arc<Owner>>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Phase is `Running` and it is not being deleted.
    pub running: bool,
    /// Running, and its condition `Ready` is true.
    pub ready: bool,
    /// Since when it has been ready; `None` if not ready.
    pub ready_since: Option<Timestamp>,
    /// Being deleted, or has ended.
    pub ending: bool,
    /// Its IP addresses.
    pub ips: Box<[IpAddr]>,
    /// Value of `kubectl.kubernetes.io/default-container`.
    pub default_container: Option<Box<str>>,
    /// Its app containers, in order.
    pub containers: Box<[ContainerFacts]>,
    /// State of the injected sidecar, if any.
    pub sidecar: Option<AgentContainerState>,
    /// Attached agents, in the order of their attachment.
    pub attached: Vec<AgentContainer>,
    /// It shares the node's network.
    pub host_network: bool,
    /// Bytes of ephemeral storage that its containers may use together; `None` without a limit.
    pub storage_limit: Option<u64>,
    /// The fields used by the injection rules, as JSON, kept for pods without a sidecar to explain why it is
    /// missing. Without pod-specific names, so that replicas can share it.
    pub uninjected: Option<Arc<str>>,
}

/// An app container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Name.
    pub name: Arc<str>,
    /// Container ID without scheme; empty if not started.
    pub id: String,
    /// It is running.
    pub running: bool,
    /// Since when it has been running, by the kubelet's clock; `None` if it is not.
    pub since: Option<Timestamp>,
    /// The user and group it runs as, if known.
    pub user: User,
    /// Its CPU limit in millicores.
    pub cpu_limit: Option<i64>,
}

impl ContainerFacts {
    /// The container's CPU limit in millicores, if it is below the minimum of the budget.
    #[must_use]
    pub fn below(&self, budget: &Budget) -> Option<i64> {
        self.cpu_limit.filter(|limit| budget.min_container_cpu.get().is_some_and(|least| *limit < least))
    }
}

/// The user and group of a container, if known. Settings of the container override those of the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `runAsUser`, or the user reported by the runtime.
    pub uid: Option<u32>,
    /// `runAsGroup`, or the group reported by the runtime.
    pub gid: Option<u32>,
    /// `runAsNonRoot`: it must never run as root.
    pub non_root: bool,
}

/// An attached agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentContainer {
    /// Name.
    pub name: String,
    /// Container it is attached to.
    pub target: String,
    /// Its state.
    pub state: AgentContainerState,
}

/// State of an agent container, as reported by the kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentContainerState {
    /// Not reported yet.
    Unknown,
    /// Not started, with the kubelet's reason and message.
    Waiting(Box<str>, Box<str>),
    /// It is running.
    Running,
    /// Exited, with the kubelet's reason.
    Ended(Box<str>),
}

/// What the kubelet says of a container that it cannot start: mostly that it cannot pull the image. Or that it ends
/// again and again: the kubelet says no other word of one whose program is not for this processor.
const CANNOT_START: [&str; 8] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerError",
    "CreateContainerConfigError",
    "RunContainerError",
    "CrashLoopBackOff",
];

impl AgentContainerState {
    /// Whether the kubelet cannot start it.
    #[must_use]
    pub fn cannot_start(&self) -> bool {
        matches!(self, Self::Waiting(why, _) if CANNOT_START.contains(&&**why))
    }
}

/// Where the opt-out label is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptOut {
    /// On the pod.
    Pod,
    /// On its namespace.
    Namespace,
    /// Nowhere as far as is known: the labels of its namespace are too large to be kept.
    Oversized,
}

impl OptOut {
    /// What the labels of a pod and of its namespace say.
    #[must_use]
    pub fn by_labels(of_pod: Option<&str>, of_namespace: Option<&str>) -> Option<Self> {
        match (of_pod, of_namespace) {
            (Some(names::OPT_DISABLED), _) => Some(Self::Pod),
            (Some(names::OPT_ENABLED), _) => None,
            (_, Some(names::OPT_DISABLED)) => Some(Self::Namespace),
            (_, Some(names::OPT_OVERSIZED)) => Some(Self::Oversized),
            _ => None,
        }
    }

    /// What is the matter, as a clause.
    #[must_use]
    pub fn why(self) -> String {
        let (label, most) =
            (format!("{}={}", names::OPT_LABEL, names::OPT_DISABLED), names::MAX_LABELS >> 10);
        match self {
            Self::Pod => format!("the pod has the label {label}"),
            Self::Namespace => format!("the namespace has the label {label}"),
            Self::Oversized => format!(
                "the namespace has more than {most} KiB of labels, so it is not known which policies select it"
            ),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(self) -> String {
        match self {
            Self::Pod | Self::Namespace => {
                format!("remove the label {}={}", names::OPT_LABEL, names::OPT_DISABLED)
            }
            Self::Oversized => {
                format!(
                    "remove labels of the namespace until it has less than {} KiB",
                    names::MAX_LABELS >> 10
                )
            }
        }
    }
}

/// Whether labels are too large to be kept.
#[must_use]
pub fn are_oversized(labels: &BTreeMap<String, String>) -> bool {
    labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > names::MAX_LABELS
}

impl PodFacts {
    /// The facts of `pod`; `None` if it has no name, namespace or UID.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref());
        let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
        let ending = meta.deletion_timestamp.is_some() || matches!(phase, "Succeeded" | "Failed");
        let sidecar = spec.init_containers.iter().flatten().any(|c| c.name == names::SIDECAR_NAME);
        Some(Self {
            namespace: meta.namespace.as_deref()?.into(),
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            node: spec.node_name.as_deref().unwrap_or_default().into(),
            labels: Arc::new(meta.labels.clone().unwrap_or_default()),
            workload: Arc::new(workload(pod)),
            owner: controller(pod).map(|o| {
                let (api_version, kind, name, uid) =
                    (o.api_version.clone(), o.kind.clone(), o.name.clone(), o.uid.clone());
                Arc::new(Owner { api_version, kind, name, uid })
            }),
            created: meta.creation_timestamp.as_ref().map(|t| t.0),
            running: phase == "Running" && !ending,
            ready: phase == "Running" && !ending && ready(pod),
            ready_since: ready_since(pod).filter(|_| phase == "Running" && !ending),
            ending,
            ips: status
                .and_then(|s| s.pod_ips.as_ref())
                .into_iter()
                .flatten()
                .filter_map(|ip| ip.ip.parse().ok())
                .collect(),
            default_container: annotation(pod, names::DEFAULT_CONTAINER_ANNOTATION).map(Into::into),
            containers: containers(pod),
            sidecar: sidecar.then(|| sidecar_state(pod)),
            attached: attached(pod),
            host_network: spec.host_network == Some(true),
            storage_limit: storage_limit(spec),
            uninjected: (!sidecar).then(|| injection::view(pod).to_string().into()),
        })
    }

    /// Whether an address is one of the pod's, in any notation.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.ips.iter().any(|ip| ip.to_canonical() == address)
    }

    /// Whether the pod is opted out by its label, or without one by that of its namespace.
    #[must_use]
    pub fn opted_out(&self, namespace_labels: Option<&BTreeMap<String, String>>) -> bool {
        self.opted_out_by(namespace_labels).is_some()
    }

    /// Bytes of slices that an attached agent may keep in its file system: a tenth of what the pod may use, so that
    /// the kubelet does not evict the pod because of them.
    #[must_use]
    pub fn spool_limit(&self) -> u64 {
        self.storage_limit.map_or(MAX_SPOOL, |limit| (limit / 10).min(MAX_SPOOL))
    }

    /// Where the opt-out label is set, if any.
    #[must_use]
    pub fn opted_out_by(&self, namespace_labels: Option<&BTreeMap<String, String>>) -> Option<OptOut> {
        let of_namespace = namespace_labels.and_then(|l| l.get(names::OPT_LABEL)).map(String::as_str);
        OptOut::by_labels(self.labels.get(names::OPT_LABEL).map(String::as_str), of_namespace)
    }

    /// The container with this name.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&ContainerFacts> {
        self.containers.iter().find(|c| &*c.name == name)
    }

    /// The container to profile: `asked`, if the policy's `containers` allow it. If `asked` is empty, the
    /// policy selects it.
    ///
    /// # Errors If there is none: the reason and what to do, as a status message.
    pub fn choose(&self, asked: &str, rules: &Containers) -> Result<&ContainerFacts, String> {
        let names: Vec<&str> = self.containers.iter().map(|c| &*c.name).collect();
        if asked.is_empty() {
            let chosen = choose_container(&names, self.default_container.as_deref(), rules)
                .and_then(|name| self.container(name));
            let why = "No container of the pod is selected, or all are known sidecars";
            return chosen.ok_or_else(|| {
                format!("{why}; {}, or set spec.container.", Reason::NoSelectedContainer.advice())
            });
        }
        if let Some(rule) = barred_by(asked, rules) {
            return Err(format!(
                "The container {asked} must not be profiled: {rule}; set spec.container to another one, or \
                 leave it empty."
            ));
        }
        let none = || {
            format!(
                "The pod has no container {asked}; set spec.container to one of {}, or leave it empty.",
                names.join(", ")
            )
        };
        self.container(asked).ok_or_else(none)
    }
}

fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some()
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    ready_condition(pod)?.last_transition_time.as_ref().map(|t| t.0)
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True")
}

fn containers(pod: &Pod) -> Box<[ContainerFacts]> {
    let Some(spec) = &pod.spec else { return Box::default() };
    let statuses: Vec<&ContainerStatus> =
        pod.status.iter().filter_map(|s| s.container_statuses.as_ref()).flatten().collect();
    spec.containers
        .iter()
        .map(|c| {
            let status = statuses.iter().find(|s| s.name == c.name);
            let running = status.and_then(|s| s.state.as_ref()?.running.as_ref());
            ContainerFacts {
                name: c.name.as_str().into(),
                id: status.and_then(|s| s.container_id.as_deref()).map(runtime_id).unwrap_or_default(),
                running: running.is_some(),
                since: running.and_then(|r| r.started_at.as_ref()).map(|at| at.0),
                user: user(spec, c, status.copied()),
                cpu_limit: c.resources.as_ref().and_then(|r| millicores(&r.limits.as_ref()?.get("cpu")?.0)),
            }
        })
        .collect()
}

/// The kubelet evicts a pod that uses more than the sum of the limits of those containers that have one.
fn storage_limit(spec: &PodSpec) -> Option<u64> {
    let limit = |c: &Container| bytes(&c.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")?.0);
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.filter_map(limit).reduce(u64::saturating_add)
}

fn user(spec: &PodSpec, container: &Container, status: Option<&ContainerStatus>) -> User {
    let (own, of_pod) = (container.security_context.as_ref(), spec.security_context.as_ref());
    let seen = status.and_then(|s| s.user.as_ref()?.linux.as_ref());
    let uid = own.and_then(|c| c.run_as_user).or_else(|| of_pod?.run_as_user);
    let gid = own.and_then(|c| c.run_as_group).or_else(|| of_pod?.run_as_group);
    let non_root = own.and_then(|c| c.run_as_non_root).or_else(|| of_pod?.run_as_non_root);
    // An ID out of range counts as unknown.
    let id = |set: Option<i64>, seen: Option<i64>| u32::try_from(set.or(seen)?).ok();
    User {
        uid: id(uid, seen.map(|l| l.uid)),
        gid: id(gid, seen.map(|l| l.gid)),
        non_root: non_root == Some(true),
    }
}

/// `containerd://<id>` → `<id>`.
fn runtime_id(id: &str) -> String {
    id.rsplit_once("://").map_or(id, |(_, id)| id).to_owned()
}

fn sidecar_state(pod: &Pod) -> AgentContainerState {
    let statuses = pod.status.iter().filter_map(|s| s.init_container_statuses.as_ref()).flatten();
    container_state(statuses.into_iter().find(|s| s.name == names::SIDECAR_NAME))
}

fn attached(pod: &Pod) -> Vec<AgentContainer> {
    let statuses = pod.status.as_ref().and_then(|s| s.ephemeral_container_statuses.as_ref());
    let spec = pod.spec.as_ref().and_then(|s| s.ephemeral_containers.as_ref());
    spec.into_iter()
        .flatten()
        .filter(|c| c.name.starts_with(names::ATTACHED_PREFIX))
        .map(|c| AgentContainer {
            name: c.name.clone(),
            target: c.target_container_name.clone().unwrap_or_default(),
            state: container_state(statuses.into_iter().flatten().find(|s| s.name == c.name)),
        })
        .collect()
}

fn container_state(status: Option<&ContainerStatus>) -> AgentContainerState {
    let Some(state) = status.and_then(|s| s.state.as_ref()) else { return AgentContainerState::Unknown };
    if state.running.is_some() {
        return AgentContainerState::Running;
    }
    if let Some(t) = &state.terminated {
        return AgentContainerState::Ended(
            format!("{} (exit code {})", t.reason.as_deref().unwrap_or("Terminated"), t.exit_code).into(),
        );
    }
    let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    match &state.waiting {
        Some(w) => AgentContainerState::Waiting(text(&w.reason), text(&w.message)),
        None => AgentContainerState::Unknown,
    }
}
