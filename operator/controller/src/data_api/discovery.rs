//! What does this API offer? The documents that the API server, kubectl and the namespace controller ask for.
//!
//! Of namespaces, only subresources with the verb `get` are listed. The namespace controller deletes whatever is
//! listed with `list` and `delete`; results are deleted with their session instead, so nothing there may look
//! deletable. Symbols have no namespace. They have no verb `create` themselves, so that no backup takes their list
//! for the files; nor `watch`, so that no garbage collector looks after them.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::Path;
use fleetprof_crds::names::{DATA_GROUP, SYMBOLS, VERSION};
use serde_json::{Value, json};

use super::status::Refusal;
use super::symbols::{KIND, OPERATIONS};
use super::views::VIEWS;

/// `/apis`. The API server asks for aggregated discovery; this is not it, so it reads the older documents.
pub(super) async fn groups() -> Json<Value> {
    Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group_object()]}))
}

/// `/apis/GROUP`.
pub(super) async fn group(Path(group): Path<String>) -> Result<Json<Value>, Refusal> {
    if group != DATA_GROUP {
        return Err(Refusal::not_found(format!("this server serves only the group {DATA_GROUP}: see /apis")));
    }
    let mut object = group_object();
    object["kind"] = json!("APIGroup");
    object["apiVersion"] = json!("v1");
    Ok(Json(object))
}

/// `/apis/GROUP/VERSION`.
pub(super) async fn resources(
    Path((group, version)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    if (group.as_str(), version.as_str()) != (DATA_GROUP, VERSION) {
        return Err(Refusal::not_found(format!("this server serves only {DATA_GROUP}/{VERSION}: see /apis")));
    }
    let resources: Vec<Value> = VIEWS
        .iter()
        .map(|view| {
            json!({
                "name": format!("profilesessions/{}", view.name),
                "singularName": "",
                "namespaced": true,
                "kind": "ProfileSession",
                "verbs": ["get"],
            })
        })
        .chain(symbols())
        .collect();
    let group_version = format!("{DATA_GROUP}/{VERSION}");
    Ok(Json(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}),
    ))
}

/// The uploaded symbols, and what a file is sent to, each with the verbs of the requests that are served.
fn symbols() -> impl Iterator<Item = Value> {
    let mut verbs: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for operation in OPERATIONS {
        verbs.entry(operation.resource()).or_default().insert(operation.verb);
    }
    verbs.into_iter().map(|(name, verbs)| {
        let singular = if name.contains('/') { "" } else { SYMBOLS };
        json!({"name": name, "singularName": singular, "namespaced": false, "kind": KIND, "verbs": verbs})
    })
}

fn group_object() -> Value {
    let version = json!({"groupVersion": format!("{DATA_GROUP}/{VERSION}"), "version": VERSION});
    json!({"name": DATA_GROUP, "versions": [version], "preferredVersion": version})
}
