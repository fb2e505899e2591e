//! How does an agent come into a pod that runs already? As an ephemeral container beside its target.

use fleetprof_core::inject::AgentUser;
use fleetprof_crds::Reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::Context;
use crate::gateway::{PodId, TICKET};

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
}

/// Attaches an agent; the same request twice attaches one, also where the first was not heard of yet.
///
/// # Errors
/// A sentence when the API server refuses.
pub async fn attach(request: &Request, context: &Context) -> Result<(), String> {
    let pod = PodId { namespace: request.namespace.clone(), name: request.pod.clone(), uid: request.pod_uid.clone() };
    let facts = context.pods.namespace(&request.namespace).into_iter().find(|p| p.uid == request.pod_uid);
    let ips = facts.map(|p| p.ips.clone()).unwrap_or_default();
    let ticket = context.tickets.mint(&pod, &ips, Timestamp::now()).map_err(|error| error.to_string())?;
    let ca = context.tls.ca_bundle().ok_or("The gateway's certificate is not loaded yet, so an agent could not trust it.")?;
    let patch = patch(request, &ticket, &ca, context);
    let api = Api::<Pod>::namespaced(context.client.clone(), &request.namespace);
    match api.patch_ephemeral_containers(&request.pod, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => {
            tracing::info!(
                k8s.namespace.name = request.namespace,
                k8s.pod.name = request.pod,
                k8s.container.name = request.name,
                "an agent was attached"
            );
            let about = ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                namespace: Some(request.namespace.clone()),
                name: Some(request.pod.clone()),
                uid: Some(request.pod_uid.clone()),
                ..ObjectReference::default()
            };
            let note = format!("The agent {} was attached to the container {}.", request.name, request.container);
            context.events.normal(&about, Reason::AgentAttached, "Attach", note).await;
            Ok(())
        }
        // An ephemeral container never changes, and each request carries a ticket of its own.
        Err(kube::Error::Api(answer)) if answer.code == 422 && is_attached(&api, request).await => Ok(()),
        Err(kube::Error::Api(answer)) => Err(format!("The API server refused to attach an agent: {}", told(&answer.message))),
        Err(error) => Err(format!("An agent could not be attached: {error}")),
    }
}

/// Whether the container is in the pod already.
async fn is_attached(api: &Api<Pod>, request: &Request) -> bool {
    let named = ListParams::default().fields(&format!("metadata.name={}", request.pod));
    let pods = api.list(&named).await.map(|pods| pods.items).unwrap_or_default();
    let pod = pods.into_iter().find(|pod| pod.metadata.uid.as_ref() == Some(&request.pod_uid));
    let containers = pod.and_then(|pod| pod.spec?.ephemeral_containers);
    containers.into_iter().flatten().any(|container| container.name == request.name)
}

/// What people are told of an answer of the API server. What follows its first line quotes the request, and so its ticket.
fn told(message: &str) -> &str {
    message.lines().next().filter(|line| !line.contains(TICKET)).unwrap_or("it does not take the container")
}

fn patch(request: &Request, ticket: &str, ca: &str, context: &Context) -> Value {
    let env = |name: &str, value: &str| json!({"name": name, "value": value});
    json!({"spec": {"ephemeralContainers": [{
        "name": request.name,
        "image": request.image,
        "imagePullPolicy": context.settings.agent_pull_policy,
        "args": ["attached"],
        "targetContainerName": request.container,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": [
            env("FLEETPROF_GATEWAY", &context.settings.gateway_url()),
            env("FLEETPROF_CA", ca),
            env("FLEETPROF_TICKET", ticket),
        ],
        "securityContext": security(request.user),
    }]}})
}

/// With the target's user known the agent needs no right beyond it and passes Pod Security *restricted*. Without, it
/// runs as root with the runtime's default capabilities, so that its worker can become the target's user.
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
        let quoted = "Pod \"a\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers may not be changed\n\
            +    \"Value\": \"fpt1.eyJwb2QiOlsi\"";
        assert!(told(quoted).ends_with("may not be changed") && !told(quoted).contains("fpt1"));
        assert_eq!(told("Invalid value: fpt1.eyJwb2Qi"), "it does not take the container");
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
