//! How does a person learn that an object cannot be decoded by this version? A policy gets a condition,
//! a session an event, and so does a policy whose status the API server refuses.

use std::future::Future;

use fleetprof_core::text::advised;
use fleetprof_crds::{Reason, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::events::Events;
use crate::watched::Unreadable;

/// The condition of policies that says so.
const CONDITION: &str = "Configured";
/// The kind that has no conditions to say so.
const SESSION: &str = "ProfileSession";

/// An object that cannot be read.
pub struct Report {
    /// Its kind.
    pub kind: String,
    /// What is known of it.
    pub object: Unreadable,
}

/// Reports each, for ever. What is refused is logged: the object is told again when it changes.
pub async fn report_forever(
    client: Client,
    events: Events,
    mut reports: UnboundedReceiver<Report>,
) -> anyhow::Result<()> {
    while let Some(Report { kind, object }) = reports.recv().await {
        let note =
            advised(format!("This version cannot decode the object: {}", object.error), Reason::Unreadable);
        if kind == SESSION || !has_condition(&client, &kind, &object, &note).await {
            events.warning(&reference(&kind, &object), Reason::Unreadable, "Decode", note).await;
        }
    }
    anyhow::bail!("the reports of unreadable objects ended")
}

/// Whether the policy's condition says it. The API server refuses a status where its own rules cannot read the
/// spec either.
async fn has_condition(client: &Client, kind: &str, object: &Unreadable, message: &str) -> bool {
    let Err(error) = condition(client, kind, object, message).await else { return true };
    // The answer may quote the object.
    let error = match error {
        kube::Error::Api(answer) => format!("{} {}", answer.code, answer.reason),
        other => other.to_string(),
    };
    tracing::warn!(
        error,
        kind,
        k8s.object.name = object.name(),
        "failed to write the condition of a policy that cannot be decoded"
    );
    false
}

/// Writes the condition where it differs, and leaves the rest of the status as it is.
fn condition(
    client: &Client,
    kind: &str,
    object: &Unreadable,
    message: &str,
) -> impl Future<Output = kube::Result<()>> {
    let gvk = GroupVersionKind::gvk(names::GROUP, names::VERSION, kind);
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match object.namespace() {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let (name, version) = (object.name().to_owned(), object.meta.resource_version.clone());
    let wanted = conditions(object, message, Timestamp::now());
    async move {
        let Some(conditions) = wanted else { return Ok(()) };
        let parameters =
            PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PatchParams::default() };
        let body = json!({"metadata": {"resourceVersion": version}, "status": {"conditions": conditions}});
        match api.patch_status(&name, &parameters, &Patch::Merge(body)).await {
            // Changed or deleted meanwhile: the watch reports it again.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => Ok(()),
            written => written.map(drop),
        }
    }
}

/// The conditions as they should be; `None` where they are so already. The others stay as they are.
fn conditions(object: &Unreadable, message: &str, now: Timestamp) -> Option<Vec<Value>> {
    let mut all = object.conditions.clone();
    let before = all.iter().position(|condition| condition["type"] == CONDITION);
    let since = before.map(|i| &all[i]).filter(|condition| condition["status"] == "False").map_or_else(
        || json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        |c| c["lastTransitionTime"].clone(),
    );
    let mut wanted = json!({
        "type": CONDITION, "status": "False", "reason": Reason::InvalidSpec.as_str(), "message": message,
        "lastTransitionTime": since,
    });
    if let Some(generation) = object.meta.generation {
        wanted["observedGeneration"] = json!(generation);
    }
    match before {
        Some(i) if all[i] == wanted => return None,
        Some(i) => all[i] = wanted,
        None => all.push(wanted),
    }
    Some(all)
}

fn reference(kind: &str, object: &Unreadable) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{}/{}", names::GROUP, names::VERSION)),
        kind: Some(kind.to_owned()),
        namespace: object.meta.namespace.clone(),
        name: object.meta.name.clone(),
        uid: object.meta.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn object(conditions: Value) -> Unreadable {
        Unreadable {
            meta: ObjectMeta { generation: Some(2), ..ObjectMeta::default() },
            error: "spec: unknown".into(),
            conditions: serde_json::from_value(conditions).unwrap(),
        }
    }

    #[test]
    fn the_condition_is_written_once_and_the_others_stay() {
        let now = "2026-05-01T00:00:00Z".parse().unwrap();
        let ready = json!({"type": "Ready", "status": "True"});
        let configured = |status: &str| json!({"type": "Configured", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let written = conditions(&object(json!([ready, configured("True")])), "bad", now).unwrap();
        assert_eq!(written[0], ready);
        assert_eq!(written[1]["lastTransitionTime"], "2026-05-01T00:00:00Z");
        assert_eq!(
            (&written[1]["reason"], &written[1]["observedGeneration"]),
            (&json!("InvalidSpec"), &json!(2))
        );
        assert_eq!(conditions(&object(json!(written)), "bad", now), None, "as it is already");

        let worse = conditions(&object(json!([configured("False")])), "worse", now).unwrap();
        assert_eq!(worse[0]["lastTransitionTime"], "2026-01-01T00:00:00Z", "it was false before");
        assert_eq!(conditions(&object(json!([])), "bad", now).unwrap().len(), 1);
    }
}
