//! What exactly is put into a pod? A native sidecar, the volume of its token, the shared process namespace and a note.
//!
//! The sidecar comes last of the init containers: it delays none of them, starts when a mesh's sidecar is
//! already up and, since sidecars end in reverse order, ends before it, so that the last slices can still be
//! sent. It has no startup probe: the app starts as soon as the container does.

use fleetprof_crds::names;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::raw::{RawPod, boolean};
use super::resources::{PodResources, Side};
use super::{Agent, AgentSettings, AgentUser, PatchOp, patch};
use crate::agent::Skip;

/// Where the token is mounted. Outside `/var/run/secrets/kubernetes.io`, which tools take for the API
/// server's token.
const TOKEN_DIR: &str = "/var/run/secrets/fleetprof.dev";
const TOKEN_FILE: &str = "/var/run/secrets/fleetprof.dev/token";
/// Where slices wait: in memory that the containers of a pod share, of which the agent takes at most 8 MiB, so
/// that it needs neither a volume of the node nor a writable file system.
const SPOOL_DIR: &str = "/dev/shm/fleetprof-sidecar";
/// The same in the agent's own file system, where the pod's shared memory is that of the node: all pods of the node
/// would find it there, and it would stay when the pod is gone.
const OWN_SPOOL_DIR: &str = "/tmp/fleetprof-sidecar";
/// Most bytes there. They count as the pod's ephemeral storage, of which the agent takes a tenth at most.
const OWN_SPOOL_LIMIT: i128 = 8 << 20;
/// Seconds that an agent takes to leave, where it may.
const LEAVE: i64 = 5;

/// The note on an injected pod: the annotation [`names::INJECTED_ANNOTATION`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Policy that serves the pod.
    #[serde(default)]
    pub policy: String,
    /// Container that is profiled.
    #[serde(default)]
    pub container: String,
    /// User of the agent: `uid`, `uid:gid` or `root`.
    #[serde(default)]
    pub user: String,
    /// Image of the agent.
    #[serde(default)]
    pub image: String,
}

impl Note {
    pub fn new(policy: &str, container: &str, agent: &Agent<'_>) -> Self {
        Self {
            policy: policy.into(),
            container: container.into(),
            user: agent.user.to_string(),
            image: agent.image.into(),
        }
    }

    /// The note on a pod; `None` without one that can be read.
    pub fn of(pod: &Value) -> Option<Self> {
        let text = pod.get("metadata")?.get("annotations")?.get(names::INJECTED_ANNOTATION)?.as_str()?;
        serde_json::from_str(text).ok()
    }
}

/// The operations that put the agent into `pod`.
pub(super) fn patch(pod: &Value, settings: &AgentSettings, agent: Agent<'_>, note: &Note) -> Vec<PatchOp> {
    let (metadata, spec) = (&pod["metadata"], &pod["spec"]);
    let text = json!(note).to_string();
    let mut ops = vec![patch::set(
        &["metadata", "annotations"],
        metadata.get("annotations"),
        names::INJECTED_ANNOTATION,
        text.into(),
    )];
    if spec["shareProcessNamespace"] != true {
        ops.push(PatchOp::add(&["spec", "shareProcessNamespace"], true.into()));
    }
    ops.extend(patch::append(&["spec", "volumes"], spec.get("volumes"), volumes(settings)));
    ops.extend(patch::append(
        &["spec", "initContainers"],
        spec.get("initContainers"),
        vec![container(settings, agent, spec)],
    ));
    ops
}

/// The token is bound to the pod and to our gateway, also where `automountServiceAccountToken` is false.
fn volumes(settings: &AgentSettings) -> Vec<Value> {
    let token = json!({"audience": names::AUDIENCE, "expirationSeconds": settings.token_ttl_seconds, "path": "token"});
    vec![json!({"name": names::TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}})]
}

/// What the agent is told by its environment.
fn variables(settings: &AgentSettings, agent: &Agent<'_>, spec: &Value) -> Vec<Value> {
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut all = vec![
        variable("FLEETPROF_GATEWAY", &settings.gateway),
        variable("FLEETPROF_CA", &settings.ca_bundle),
        variable("FLEETPROF_TOKEN_FILE", TOKEN_FILE),
    ];
    match agent.spool_limit {
        None => all.push(variable("FLEETPROF_SPOOL", SPOOL_DIR)),
        Some(limit) => all.extend([
            variable("FLEETPROF_SPOOL", OWN_SPOOL_DIR),
            variable("FLEETPROF_SPOOL_LIMIT", &limit.to_string()),
        ]),
    }
    if spec["hostNetwork"] == true {
        all.push(variable("FLEETPROF_HOST_NETWORK", "true"));
    }
    // The kubelet gives every container two seconds. One that it has to kill has an exit code that is not 0, which
    // the podFailurePolicy of a Job may take for the app's.
    if let Some(grace) = spec["terminationGracePeriodSeconds"].as_i64().filter(|grace| *grace <= LEAVE) {
        all.push(variable("FLEETPROF_SHUTDOWN_GRACE", &(grace - 1).clamp(1, LEAVE).to_string()));
    }
    all
}

/// Most bytes of slices in the agent's own file system; `None` where they wait in the pod's memory.
pub(super) fn spool_limit(pod: &RawPod<'_>) -> Result<Option<u64>, Skip> {
    if boolean(pod.spec(), "hostIPC")? != Some(true) {
        return Ok(None);
    }
    let of_pod = PodResources::of(pod)?.with(Side::Limits, "ephemeral-storage", None);
    // A limit of 0 is none.
    let of_pod = of_pod.filter(|limit| limit.nanos() > 0);
    let share = of_pod.map_or(OWN_SPOOL_LIMIT, |limit| limit.nanos() / 10_000_000_000);
    Ok(u64::try_from(share.min(OWN_SPOOL_LIMIT)).ok())
}

fn container(settings: &AgentSettings, agent: Agent<'_>, spec: &Value) -> Value {
    let env = variables(settings, &agent, spec);
    json!({
        "name": names::SIDECAR_NAME,
        "image": agent.image,
        "imagePullPolicy": settings.pull_policy,
        "args": ["sidecar"],
        "restartPolicy": "Always",
        "env": env,
        "resources": agent.resources,
        "securityContext": security(agent.user, agent.spool_limit.is_none()),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": names::TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": true},
        ],
    })
}

/// As the target's user it passes Pod Security `restricted`, as root `baseline`.
fn security(user: AgentUser, is_read_only: bool) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": is_read_only,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    match user {
        AgentUser::Target { uid, gid } => {
            context["runAsUser"] = uid.into();
            context["runAsNonRoot"] = true.into();
            context["capabilities"] = json!({"drop": ["ALL"]});
            if let Some(gid) = gid {
                context["runAsGroup"] = gid.into();
            }
        }
        AgentUser::Root => {
            context["runAsUser"] = 0.into();
            context["runAsGroup"] = 0.into();
            context["runAsNonRoot"] = false.into();
        }
    }
    context
}
