//! What does the API server say to an object, and to whom? `accepts` and `rejects`, with the words of the
//! refusal.

use anyhow::{Result, bail};
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

/// The resource of a fleetprof kind.
#[must_use]
pub fn resource(kind: &str) -> ApiResource {
    let plural = match kind {
        "ProfilingPolicy" => "profilingpolicies",
        "ClusterProfilingPolicy" => "clusterprofilingpolicies",
        _ => "profilesessions",
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("fleetprof.dev", "v1alpha1", kind), plural)
}

/// A fleetprof object with this spec.
///
/// # Panics
/// Never: the object is well-formed.
#[must_use]
pub fn object(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

/// A policy of the cluster with this spec.
#[must_use]
pub fn cluster_policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ClusterProfilingPolicy", "metadata": {"name": name}, "spec": spec})
}

/// Creates it for real, or as a dry run.
///
/// # Errors
/// What the API server answered.
pub async fn create(client: &Client, object: &Value, dry_run: bool) -> kube::Result<DynamicObject> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) if kind != "ClusterProfilingPolicy" => {
            Api::namespaced_with(client.clone(), namespace, &resource(kind))
        }
        _ => Api::all_with(client.clone(), &resource(kind)),
    };
    let object: DynamicObject = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    api.create(&PostParams { dry_run, field_manager: None }, &object).await
}

/// The object as it would be stored.
///
/// # Errors
/// When it is refused.
pub async fn accepts(client: &Client, object: &Value) -> Result<Value> {
    match create(client, object, true).await {
        Ok(stored) => Ok(serde_json::to_value(stored)?),
        Err(error) => bail!("refused: {error}\n{object:#}"),
    }
}

/// The refusal's code, whose message must hold `words`.
///
/// # Errors
/// When it is accepted, or refused in other words.
pub async fn rejects(client: &Client, object: &Value, words: &str) -> Result<u16> {
    match create(client, object, true).await {
        Ok(_) => bail!("accepted, although it should be refused with {words:?}:\n{object:#}"),
        Err(kube::Error::Api(status)) if status.message.contains(words) => Ok(status.code),
        Err(error) => bail!("refused, but not with {words:?}: {error}"),
    }
}
