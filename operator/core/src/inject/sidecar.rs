//! What exactly is put into a pod? A native sidecar, the volume of its token, the shared process namespace and a note.
//!
//! The sidecar comes last of the init containers: it delays none of them, starts when a mesh's sidecar is
//! already up and, since sidecars end in reverse order, ends before it, so that the last slices can still be
//! sent. It has no startup probe: the app starts as soon as the container does.

use fleetprof_crds::names;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Agent, AgentSettings, AgentUser, PatchOp, patch};

/// Where the token is mounted. Outside `/var/run/secrets/kubernetes.io`, which tools take for the API
/// server's token.
const TOKEN_DIR: &str = "/var/run/secrets/fleetprof.dev";
const TOKEN_FILE: &str = "/var/run/secrets/fleetprof.dev/token";
/// Where slices wait: in memory that the containers of a pod share, of which the agent takes at most 8 MiB, so
/// that it needs neither a volume of the node nor a writable file system.
const SPOOL_DIR: &str = "/dev/shm/fleetprof-sidecar";

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
        vec![container(settings, agent, spec["hostNetwork"] == true)],
    ));
    ops
}

/// The token is bound to the pod and to our gateway, also where `automountServiceAccountToken` is false.
fn volumes(settings: &AgentSettings) -> Vec<Value> {
    let token = json!({"audience": names::AUDIENCE, "expirationSeconds": settings.token_ttl_seconds, "path": "token"});
    vec![json!({"name": names::TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}})]
}

fn container(settings: &AgentSettings, agent: Agent<'_>, host_network: bool) -> Value {
    let mut env = vec![
        json!({"name": "FLEETPROF_GATEWAY", "value": settings.gateway}),
        json!({"name": "FLEETPROF_CA", "value": settings.ca_bundle}),
        json!({"name": "FLEETPROF_TOKEN_FILE", "value": TOKEN_FILE}),
        json!({"name": "FLEETPROF_SPOOL", "value": SPOOL_DIR}),
    ];
    if host_network {
        env.push(json!({"name": "FLEETPROF_HOST_NETWORK", "value": "true"}));
    }
    json!({
        "name": names::SIDECAR_NAME,
        "image": agent.image,
        "imagePullPolicy": settings.pull_policy,
        "args": ["sidecar"],
        "restartPolicy": "Always",
        "env": env,
        "resources": agent.resources,
        "securityContext": security(agent.user),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": names::TOKEN_VOLUME, "mountPath": TOKEN_DIR, "readOnly": true},
        ],
    })
}

/// As the target's user it passes Pod Security `restricted`, as root `baseline`.
fn security(user: AgentUser) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
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
