//! What does this API offer? The documents that the API server, kubectl and the namespace controller ask for.
//!
//! Only subresources with the verb `get` are listed. The namespace controller deletes whatever is listed with
//! `list` and `delete`; a session's results go with their session instead, so nothing here may look
//! deletable.

use axum::Json;
use axum::extract::Path;
use fleetprof_crds::names::{DATA_GROUP, VERSION};
use serde_json::{Value, json};

use super::status::Refusal;

/// The subresources of a session that can be read, with what they give.
pub(super) const SUBRESOURCES: [(&str, &str, &str); 2] = [
    ("profile", "application/octet-stream", "All profiles of a session merged into one gzipped pprof file"),
    ("top", "text/plain", "The functions in which a session's profiles spend themselves, hottest first"),
];

/// `/apis`. The API server asks for its aggregated form and, since this is not it, reads the older documents.
pub(super) async fn groups() -> Json<Value> {
    Json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group_object()]}))
}

/// `/apis/GROUP`.
pub(super) async fn group(Path(group): Path<String>) -> Result<Json<Value>, Refusal> {
    if group != DATA_GROUP {
        return Err(Refusal::not_found(format!(
            "this server serves the group {DATA_GROUP} alone: see /apis"
        )));
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
        return Err(Refusal::not_found(format!(
            "this server serves {DATA_GROUP}/{VERSION} alone: see /apis"
        )));
    }
    let resources: Vec<Value> = SUBRESOURCES
        .iter()
        .map(|(name, _, _)| {
            json!({
                "name": format!("profilesessions/{name}"),
                "singularName": "",
                "namespaced": true,
                "kind": "ProfileSession",
                "verbs": ["get"],
            })
        })
        .collect();
    let group_version = format!("{DATA_GROUP}/{VERSION}");
    Ok(Json(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}),
    ))
}

fn group_object() -> Value {
    let version = json!({"groupVersion": format!("{DATA_GROUP}/{VERSION}"), "version": VERSION});
    json!({"name": DATA_GROUP, "versions": [version], "preferredVersion": version})
}
