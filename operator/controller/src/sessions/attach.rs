//! How does an agent come into a pod that runs already? As an ephemeral container beside its target.

use fleetprof_core::agent::{AgentUser, PodAgent, PodId};
use fleetprof_crds::Reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::Context;
use crate::tickets::TICKET;

/// Bytes of slices that an agent may keep in a pod of which nothing is known.
const UNKNOWN_SPOOL: u64 = 8 << 20;

/// Which agent to attach where.
pub struct Request {
    /// Namespace of the pod.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its uid.
    pub pod_uid: String,
    /// The container to attach to.
    pub container: String,
    /// Name of the ephemeral container.
    pub name: String,
    /// Image of the agent.
    pub image: String,
    /// The user that the agent runs as.
    pub user: AgentUser,
    /// Whether the pod shares the node's network.
    pub host_network: bool,
}

/// Why no agent was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The same request would be refused again: the reason, and a sentence.
    Final(Reason, String),
    /// It may pass later: a sentence.
    Delayed(String),
}

/// Attaches an agent; the same request twice attaches one, even if the result of the first is not visible
/// yet.
///
/// # Errors
/// Finally with `PodGone` when the pod is no longer there or was replaced and with `AttachFailed` when the API
/// server rejects the container; delayed when it is busy or does not answer.
pub async fn attach(request: &Request, context: &Context) -> Result<(), Refused> {
    let pod = PodId {
        namespace: request.namespace.clone(),
        name: request.pod.clone(),
        uid: request.pod_uid.clone(),
    };
    let facts = context.pods.get(&request.namespace, &request.pod_uid);
    let ips = facts.as_ref().map(|p| p.ips.clone()).unwrap_or_default();
    let spool = facts.map_or(UNKNOWN_SPOOL, |pod| pod.spool_limit());
    let agent = PodAgent { pod, container: Some(request.container.clone()) };
    let ticket = context.tickets.mint(&agent, &ips, Timestamp::now());
    let ticket = ticket.map_err(|error| Refused::Final(Reason::AttachFailed, error.to_string()))?;
    let ca = context.tls.ca_bundle();
    let ca = ca.ok_or_else(|| {
        Refused::Delayed("The gateway's certificate is not loaded yet, so agents cannot trust it.".to_owned())
    })?;
    let patch = patch(request, &ticket, &ca, spool, context);
    let api = Api::<Pod>::namespaced(context.client.clone(), &request.namespace);
    match api
        .patch_ephemeral_containers(&request.pod, &PatchParams::default(), &Patch::Strategic(patch))
        .await
    {
        Ok(_) => {
            announce(request, context).await;
            Ok(())
        }
        Err(kube::Error::Api(answer)) => {
            let found = if may_be_gone(answer.code) { look(&api, request).await } else { None };
            judge(answer.code, &answer.message, found)
        }
        Err(error) => Err(Refused::Delayed(format!("The API server did not answer: {error}."))),
    }
}

async fn announce(request: &Request, context: &Context) {
    tracing::info!(
        k8s.namespace.name = request.namespace,
        k8s.pod.name = request.pod,
        k8s.container.name = request.name,
        "agent attached"
    );
    let about = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(request.namespace.clone()),
        name: Some(request.pod.clone()),
        uid: Some(request.pod_uid.clone()),
        ..ObjectReference::default()
    };
    let note = format!("Attached agent {} to container {}.", request.name, request.container);
    context.events.normal(&about, Reason::AgentAttached, "Attach", note).await;
}

/// What was found of a pod that an agent was refused to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It is there, with the agent.
    Attached,
    /// It is there, without it.
    Bare,
    /// There is no pod of that uid.
    Gone,
}

/// Codes of the API server for a pod that is not there, or that another one of its name has replaced: the
/// patch names its uid.
const fn may_be_gone(code: u16) -> bool {
    matches!(code, 404 | 409 | 422)
}

/// `None` when the API server does not tell.
async fn look(api: &Api<Pod>, request: &Request) -> Option<Found> {
    let named = ListParams::default().fields(&format!("metadata.name={}", request.pod));
    let pods = api.list(&named).await.ok()?.items;
    Some(find(&pods, request))
}

fn find(pods: &[Pod], request: &Request) -> Found {
    let Some(pod) = pods.iter().find(|pod| pod.metadata.uid.as_ref() == Some(&request.pod_uid)) else {
        return Found::Gone;
    };
    let containers = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_ref());
    let attached = containers.into_iter().flatten().any(|container| container.name == request.name);
    if attached { Found::Attached } else { Found::Bare }
}

/// What an answer of the API server means for the target, given what was found of the pod since.
fn judge(code: u16, message: &str, found: Option<Found>) -> Result<(), Refused> {
    match found {
        // An ephemeral container never changes, and each request carries a ticket of its own.
        Some(Found::Attached) if code == 422 => Ok(()),
        Some(Found::Gone) => {
            let message = "The pod ended or was replaced before an agent was attached.";
            Err(Refused::Final(Reason::PodGone, message.to_owned()))
        }
        _ if is_transient(code) => {
            Err(Refused::Delayed(format!("The API server did not attach the agent yet: {}", told(message))))
        }
        _ => {
            let message = format!("The API server rejected the agent: {}", told(message));
            Err(Refused::Final(Reason::AttachFailed, message))
        }
    }
}

/// Codes with which an API server, or a webhook that it asks, says that the same request may pass later:
/// a conflict, too many requests, and its own failures.
const fn is_transient(code: u16) -> bool {
    matches!(code, 408 | 409 | 429 | 500..)
}

/// What people are told of an answer of the API server. What follows its first line quotes the request, and
/// so its ticket.
fn told(message: &str) -> &str {
    message.lines().next().filter(|line| !line.contains(TICKET)).unwrap_or("it rejected the container")
}

/// The uid keeps the agent, and the ticket, out of another pod of the same name.
fn patch(request: &Request, ticket: &str, ca: &str, spool: u64, context: &Context) -> Value {
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut variables = vec![
        env("FLEETPROF_GATEWAY", &context.settings.gateway_url()),
        env("FLEETPROF_CA", ca),
        env("FLEETPROF_TICKET", ticket),
        env("FLEETPROF_SPOOL_LIMIT", &spool.to_string()),
    ];
    if request.host_network {
        variables.push(env("FLEETPROF_HOST_NETWORK", "true"));
    }
    json!({"metadata": {"uid": request.pod_uid}, "spec": {"ephemeralContainers": [{
        "name": request.name,
        "image": request.image,
        "imagePullPolicy": context.settings.agent_pull_policy,
        "args": ["attached"],
        "targetContainerName": request.container,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": variables,
        "securityContext": security(request.user),
    }]}})
}

/// With the target's user known the agent needs no right beyond it and passes Pod Security *restricted*.
/// Without, it runs as root with the runtime's default capabilities, so that its worker can become the
/// target's user.
fn security(user: AgentUser) -> Value {
    let AgentUser::Target { uid, gid } = user else {
        return json!({"runAsUser": 0, "runAsNonRoot": false, "allowPrivilegeEscalation": false, "seccompProfile": {"type": "RuntimeDefault"}});
    };
    let mut security = json!({
        "runAsUser": uid,
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let Some(gid) = gid {
        security["runAsGroup"] = json!(gid);
    }
    security
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_ticket_gets_into_a_status() {
        let quoted = "Pod \"a\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral \
                      containers may not be changed\n+    \"Value\": \"fpt1.eyJwb2QiOlsi\"";
        assert!(told(quoted).ends_with("may not be changed") && !told(quoted).contains("fpt1"));
        assert_eq!(told("Invalid value: fpt1.eyJwb2Qi"), "it rejected the container");
    }

    #[test]
    fn a_pod_that_was_replaced_is_gone_and_one_that_has_the_agent_is_attached() {
        let request = Request {
            namespace: "shop".into(),
            pod: "a".into(),
            pod_uid: "u-1".into(),
            container: "app".into(),
            name: "fleetprof-agent-1".into(),
            image: "agent:1".into(),
            user: AgentUser::Root,
            host_network: false,
        };
        let pod = |uid: &str, agent: &str| -> Pod {
            let agents = json!([{"name": agent}]);
            serde_json::from_value(
                json!({"metadata": {"name": "a", "uid": uid}, "spec": {"containers": [], "ephemeralContainers": agents}}),
            )
            .unwrap()
        };
        assert_eq!(find(&[], &request), Found::Gone);
        assert_eq!(find(&[pod("u-2", "fleetprof-agent-1")], &request), Found::Gone);
        assert_eq!(find(&[pod("u-1", "debugger")], &request), Found::Bare);
        assert_eq!(find(&[pod("u-1", "fleetprof-agent-1")], &request), Found::Attached);

        let (gone, failed) = (Err(Some(Reason::PodGone)), Err(Some(Reason::AttachFailed)));
        let delayed = Err(None);
        let cases = [
            (404, Some(Found::Gone), gone),
            (409, Some(Found::Gone), gone),
            (422, Some(Found::Gone), gone),
            (422, Some(Found::Attached), Ok(())),
            (422, Some(Found::Bare), failed),
            (409, Some(Found::Bare), delayed),
            (409, None, delayed),
            (400, None, failed),
            (403, None, failed),
            (429, None, delayed),
            (500, None, delayed),
            (503, None, delayed),
            (504, None, delayed),
        ];
        let reason = |refused| match refused {
            Refused::Final(reason, _) => Some(reason),
            Refused::Delayed(_) => None,
        };
        for (code, found, expected) in cases {
            assert_eq!(judge(code, "no", found).map_err(reason), expected, "{code} {found:?}");
        }
        assert!([404, 409, 422].into_iter().all(may_be_gone) && !may_be_gone(403));
    }

    #[test]
    fn a_known_user_gets_an_agent_without_any_capability() {
        let s = security(AgentUser::Target { uid: 1000, gid: Some(7) });
        assert_eq!(
            (&s["runAsUser"], &s["runAsGroup"], &s["runAsNonRoot"], &s["capabilities"]["drop"][0]),
            (&json!(1000), &json!(7), &json!(true), &json!("ALL"))
        );
        assert_eq!(security(AgentUser::Root)["runAsUser"], json!(0));
    }
}
