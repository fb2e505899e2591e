//! Is an agent put into this pod, and how? Raw JSON in, a verdict and the smallest JSON patch out.
//!
//! ```text
//! pod (raw JSON) ─┐
//! namespace ──────┼─► judge ─► NotSelected | Skipped(reason, message)
//! policies ───────┘      └──► Inject(policy, container, user) ─► patch ─► applied by the API server
//!                                          ▲                                       │
//!                                       Breaker ◄────────── refused ◄──────────────┘
//! ```
//! A Pod is never decoded into a type and written again, so that fields that this build does not know
//! survive. The webhook patches with [`inject`]; the controllers ask [`judge`] why a pod was left out, so
//! both say the same. A dry run is answered like any other request: nothing here has a side effect.

mod bounds;
mod breaker;
mod fit;
mod patch;
mod raw;
mod read;
mod resources;
mod rules;
mod scopes;
mod sidecar;
#[cfg(test)]
mod tests;
mod user;

use std::borrow::Cow;
use std::collections::BTreeMap;

use fleetprof_crds::policy::AgentMode;
use fleetprof_crds::{ProfilingPolicySpec, Reason, names};
use serde_json::{Value, json};

pub use bounds::ResourceRules;
pub use breaker::{Attempt, Breaker, Held, LeftOut, Said};
pub use patch::PatchOp;
pub use read::read;

use crate::agent::{AgentUser, PodSecurity, ServedNamespaces, Skip, agent_user};
use crate::container;
use crate::image::AgentImages;
use crate::pod::PodFacts;
use crate::text::printable;
use crate::view::{PolicyView, serving};
use bounds::Bounds;
use fit::{Wanted, fit, keep_class};
use raw::{RawContainer, RawPod};

/// The label that the API server gives every namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What the pod itself does not tell.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionFacts<'a> {
    /// Namespace of the request; a pod at creation often does not name its own.
    pub namespace: &'a str,
    /// Labels of that namespace; `None` where it is not known, so that neither its opt-out nor its Pod Security
    /// level is.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// What the namespace demands of the resources of its pods.
    pub resources: &'a ResourceRules,
    /// What holds in the whole cluster.
    pub cluster: &'a ClusterRules,
}

/// What holds in the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterRules {
    /// Namespaces whose pods are never touched: `kube-system` and the operator's own.
    pub excluded_namespaces: Vec<String>,
    /// Pod Security level of namespaces without the label `pod-security.kubernetes.io/enforce`.
    pub default_pod_security: PodSecurity,
    /// Whether an agent may be injected as root, where its target runs as root or as an unknown user.
    pub allow_root: bool,
    /// The images that agents may have.
    pub images: AgentImages,
    /// Whether an administrator forbids to attach agents to running pods.
    pub attach_disabled: bool,
    /// Whom the agents of nodes serve; `None` where an administrator has installed none.
    pub node_agents: Option<ServedNamespaces>,
    /// `resources` of injected agents, before those of [`default_resources`] and after those of the policy.
    pub agent_resources: Value,
}

impl ClusterRules {
    /// Whether agents of nodes serve the pods of a namespace. That is the administrator's word, and does not depend
    /// on which of them answer at the moment: whoever starts while one is replaced gets no sidecar for it.
    #[must_use]
    pub fn served_by_nodes(&self, namespace: &str) -> bool {
        self.node_agents.as_ref().is_some_and(|served| served.has(namespace))
    }
}

impl<'a> AdmissionFacts<'a> {
    /// An unknown namespace may have any level, so the strictest is assumed.
    fn pod_security(&self) -> PodSecurity {
        let default = self.cluster.default_pod_security;
        self.namespace_labels.map_or(PodSecurity::Restricted, |labels| PodSecurity::enforced(labels, default))
    }

    /// The labels that policies select the namespace by; every namespace has one with its name.
    fn selectable_labels(&self) -> Cow<'a, BTreeMap<String, String>> {
        let by_name = || [(NAME_LABEL.to_owned(), self.namespace.to_owned())].into();
        self.namespace_labels.map_or_else(|| Cow::Owned(by_name()), Cow::Borrowed)
    }
}

/// How injected agents are set up where their policy says nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSettings {
    /// `imagePullPolicy`, such as `IfNotPresent`.
    pub pull_policy: String,
    /// URL of the gateway.
    pub gateway: String,
    /// CA bundle that the gateway's certificate is checked with, PEM.
    pub ca_bundle: String,
    /// Lifetime of the pod-bound token in s; the API server takes 600 and more.
    pub token_ttl_seconds: u32,
}

/// Requests of an agent that waits, and a memory limit that a capture fits into. No CPU limit: a throttled
/// agent would keep a stopped target waiting, and count fewer samples than there are. The limit protects the
/// node: a worker reads the symbol tables of whatever the target maps.
#[must_use]
pub fn default_resources() -> Value {
    json!({"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "256Mi"}})
}

/// What was decided about a pod and, if it is injected, how. Shared by webhook, metrics, log and annotation.
#[derive(Clone, Debug, PartialEq)]
pub struct InjectionReport {
    /// The decision.
    pub outcome: Outcome,
}

/// The decision about a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It gets an agent, or has it already: then the patch is empty.
    Injected {
        /// Policy that serves the pod.
        policy: String,
        /// Container that will be profiled.
        container: String,
        /// RFC 6902 operations, to be applied in this order.
        patch: Vec<PatchOp>,
    },
    /// A policy selects it, but it gets none.
    Skipped {
        /// Why.
        reason: Reason,
        /// The reason and what to do, as a message.
        message: String,
    },
    /// It gets none, since pods that had one were refused, or did not start.
    Refused {
        /// The words of the API server, or of a kubelet.
        message: String,
        /// Writes them on the pod, for the controllers and for whoever looks at it; nothing where that was refused.
        patch: Vec<PatchOp>,
    },
    /// No policy selects it.
    NotSelected,
}

/// What injection would do with a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<'a> {
    /// Put an agent in.
    Inject {
        /// Policy that serves the pod.
        policy: PolicyView<'a>,
        /// Container to be profiled.
        container: &'a str,
        /// The agent.
        agent: Agent<'a>,
    },
    /// The agent is in already.
    Present,
    /// Leave it out.
    Skip(Skip),
    /// No policy selects the pod.
    NotSelected,
}

/// How the agent of one pod is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent<'a> {
    /// User that it runs as.
    pub user: AgentUser,
    /// Its image.
    pub image: &'a str,
    /// Its `resources`.
    pub resources: Value,
    /// Most bytes of slices in its own file system; `None` where they wait in memory of the pod.
    pub spool_limit: Option<u64>,
}

/// Decides about a pod. The policy that serves it (see [`crate::view`]) is obeyed whatever its mode;
/// `suspend` stops sessions, not agents, and does not matter here.
#[must_use]
pub fn judge<'a>(
    pod: &'a Value,
    facts: &AdmissionFacts<'a>,
    policies: impl IntoIterator<Item = PolicyView<'a>>,
) -> Verdict<'a> {
    let raw = match RawPod::read(pod) {
        Ok(raw) => raw,
        Err(malformed) => return Verdict::Skip(malformed),
    };
    if raw.is_injected() {
        return Verdict::Present;
    }
    let labels = facts.selectable_labels();
    let served = serving(policies, facts.namespace, Some(&labels), |key| raw.label(key));
    let Some(policy) = served else { return Verdict::NotSelected };
    match admit(&raw, facts, policy.spec) {
        Ok((container, agent)) => Verdict::Inject { policy, container, agent },
        Err(skip) => Verdict::Skip(skip),
    }
}

fn admit<'a>(
    raw: &RawPod<'a>,
    facts: &AdmissionFacts<'a>,
    spec: &'a ProfilingPolicySpec,
) -> Result<(&'a str, Agent<'a>), Skip> {
    rules::check(raw, facts)?;
    if let Some((reason, cause)) = stays_out(facts, spec.agent.mode) {
        return Err(Skip::new(reason, cause));
    }
    let chosen = choose(raw, spec).ok_or_else(|| {
        Skip::new(Reason::NoSelectedContainer, "no container is selected, or all of them are known sidecars")
    })?;
    let (limit, least) = (chosen.cpu_limit, spec.budget.min_container_cpu.get());
    if let (Some(limit), Some(least)) = (limit, least)
        && limit < least
    {
        let cause = format!(
            "the container {} has a CPU limit of {limit}m, but budget.minContainerCPU is {least}m",
            chosen.name
        );
        return Err(Skip::new(Reason::TooSmall, cause));
    }
    let agent = agent(raw, chosen, facts, spec)?;
    match raw.annotation(names::REFUSED_ANNOTATION) {
        None => Ok((chosen.name, agent)),
        Some(words) => {
            let cause = format!("pods with the agent are not created or not started: {}", printable(words));
            Err(Skip::new(Reason::InjectionRefused, cause))
        }
    }
}

/// Why no agent is injected under a policy of this mode.
fn stays_out(facts: &AdmissionFacts<'_>, mode: AgentMode) -> Option<(Reason, &'static str)> {
    match mode {
        AgentMode::Auto if facts.cluster.served_by_nodes(facts.namespace) => {
            let cause = "the policy's agent.mode is Auto, and agents of nodes serve the namespace";
            Some((Reason::ServedByNode, cause))
        }
        AgentMode::Sidecar | AgentMode::Auto => None,
        AgentMode::Node => Some((Reason::ServedByNode, "the policy's agent.mode is Node")),
        AgentMode::Ephemeral => Some((Reason::AttachedOnDemand, "the policy's agent.mode is Ephemeral")),
        AgentMode::Unknown => {
            Some((Reason::InvalidSpec, "this version does not know the policy's agent.mode"))
        }
    }
}

/// The container that is to be profiled.
fn choose<'r, 'a>(raw: &'r RawPod<'a>, spec: &ProfilingPolicySpec) -> Option<&'r RawContainer<'a>> {
    let names: Vec<&str> = raw.containers().iter().map(|c| c.name).collect();
    let preferred = raw.annotation(names::DEFAULT_CONTAINER_ANNOTATION);
    let name = container::choose_container(&names, preferred, &spec.containers)?;
    raw.containers().iter().find(|c| c.name == name)
}

/// The agent beside the container `chosen`.
fn agent<'a>(
    raw: &RawPod<'a>,
    chosen: &RawContainer<'a>,
    facts: &AdmissionFacts<'a>,
    spec: &'a ProfilingPolicySpec,
) -> Result<Agent<'a>, Skip> {
    let image =
        facts.cluster.images.of(spec).map_err(|cause| {
            Skip::new(Reason::ImageNotAllowed, format!("agent.image of the policy: {cause}"))
        })?;
    let user = agent_user(chosen.name, user::user_of(raw, chosen)?, facts.pod_security())?;
    if user == AgentUser::Root && !facts.cluster.allow_root {
        let cause = format!(
            "the agent of the container {} would run as root, and agent.allowRoot of the chart is false",
            chosen.name
        );
        return Err(Skip::new(Reason::UnknownUser, cause));
    }
    let policy = spec.agent.resources.as_ref().map(|resources| json!(resources));
    let wanted = Wanted::new(default_resources(), &facts.cluster.agent_resources, policy);
    let resources = fit(&wanted, raw, &Bounds::of(facts.resources, raw)?)?;
    keep_class(raw, &resources)?;
    Ok(Agent { user, image, resources, spool_limit: sidecar::spool_limit(raw)? })
}

/// Why injection leaves out a pod that runs without a sidecar, by the policy that serves it; without one,
/// what bars an agent from it whoever asks. `None` where it would inject it, or where the pod has a sidecar.
#[must_use]
pub fn refusal(
    pod: &PodFacts,
    facts: &AdmissionFacts<'_>,
    spec: Option<&ProfilingPolicySpec>,
) -> Option<Skip> {
    let view: Value = serde_json::from_str(pod.uninjected.as_deref()?).ok()?;
    let raw = match RawPod::read(&view) {
        Ok(raw) => raw,
        Err(malformed) => return Some(malformed),
    };
    match spec {
        Some(spec) => admit(&raw, facts, spec).err(),
        None => rules::check(&raw, facts).err(),
    }
}

/// Decides about a pod and makes the patch. Injecting twice changes nothing. `refused` is told of the policy and the
/// image before the attempt, and prevents it with the words of an earlier refusal: see [`Breaker::attempt`].
#[must_use]
pub fn inject<'a>(
    pod: &'a Value,
    facts: &AdmissionFacts<'a>,
    policies: impl IntoIterator<Item = PolicyView<'a>>,
    settings: &AgentSettings,
    refused: impl FnOnce(&PolicyView<'a>, &str) -> Option<Held>,
) -> InjectionReport {
    let outcome = match judge(pod, facts, policies) {
        Verdict::Inject { policy, container, agent } => match refused(&policy, agent.image) {
            Some(Held { words, is_told }) => {
                let patch = is_told.then(|| note_refusal(pod, &words)).into_iter().collect();
                Outcome::Refused { patch, message: words }
            }
            None => {
                let note = sidecar::Note::new(policy.name, container, &agent);
                let patch = sidecar::patch(pod, settings, agent, &note);
                Outcome::Injected { policy: policy.name.to_owned(), container: container.to_owned(), patch }
            }
        },
        Verdict::Present => {
            let note = sidecar::Note::of(pod).unwrap_or_default();
            Outcome::Injected { policy: note.policy, container: note.container, patch: Vec::new() }
        }
        Verdict::Skip(skip) => Outcome::Skipped { reason: skip.reason, message: skip.message() },
        Verdict::NotSelected => Outcome::NotSelected,
    };
    InjectionReport { outcome }
}

fn note_refusal(pod: &Value, words: &str) -> PatchOp {
    let annotations = pod["metadata"].get("annotations");
    patch::set(&["metadata", "annotations"], annotations, names::REFUSED_ANNOTATION, words.into())
}
