//! How is this API described? Two small OpenAPI documents, so that the API server can merge them with its
//! own.

use axum::Json;
use fleetprof_crds::names::{DATA_GROUP, VERSION};
use serde_json::{Map, Value, json};

use super::discovery::SUBRESOURCES;

/// `/openapi/v2`.
pub(super) async fn v2() -> Json<Value> {
    let parameter = |name: &str, place: &str, about: &str| json!({"name": name, "in": place, "type": "string", "required": place == "path", "description": about});
    let paths = paths(
        |about, id, media, parameters| {
            json!({
                "description": about,
                "operationId": id,
                "produces": [media],
                "schemes": ["https"],
                "tags": ["dataFleetprofDev_v1alpha1"],
                "parameters": parameters,
                "responses": {"200": {"description": "OK", "schema": {"type": "string"}}, "401": {"description": "Unauthorized"}},
            })
        },
        parameter,
    );
    Json(json!({"swagger": "2.0", "info": {"title": "fleetprof", "version": VERSION}, "paths": paths}))
}

/// `/openapi/v3`.
pub(super) async fn v3_index() -> Json<Value> {
    let path = format!("apis/{DATA_GROUP}/{VERSION}");
    Json(
        json!({"paths": {&path: {"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"))}}}),
    )
}

/// `/openapi/v3/apis/GROUP/VERSION`.
pub(super) async fn v3() -> Json<Value> {
    let parameter = |name: &str, place: &str, about: &str| json!({"name": name, "in": place, "schema": {"type": "string"}, "required": place == "path", "description": about});
    let paths = paths(
        |about, id, media, parameters| {
            json!({
                "description": about,
                "operationId": id,
                "tags": ["dataFleetprofDev_v1alpha1"],
                "parameters": parameters,
                "responses": {
                    "200": {"description": "OK", "content": {media: {"schema": {"type": "string"}}}},
                    "401": {"description": "Unauthorized"},
                },
            })
        },
        parameter,
    );
    Json(json!({"openapi": "3.0.0", "info": {"title": "fleetprof", "version": VERSION}, "paths": paths}))
}

fn paths(
    operation: impl Fn(&str, &str, &str, Vec<Value>) -> Value,
    parameter: impl Fn(&str, &str, &str) -> Value,
) -> Map<String, Value> {
    let described = SUBRESOURCES.iter().map(|(name, media, about)| {
        let mut parameters = vec![
            parameter("namespace", "path", "Namespace of the session"),
            parameter("name", "path", "Name of the session"),
            parameter("pod", "query", "Only the profile of this pod"),
            parameter("type", "query", "What it counts, such as cpu; the session's first by default"),
        ];
        if *name == "top" {
            parameters.push(parameter("n", "query", "How many functions, 1 to 1000"));
            parameters.push(parameter("format", "query", "text or json"));
        }
        let path =
            format!("/apis/{DATA_GROUP}/{VERSION}/namespaces/{{namespace}}/profilesessions/{{name}}/{name}");
        let id = format!("readDataFleetprofDevV1alpha1NamespacedProfileSession_{name}");
        (path, json!({"get": operation(about, &id, media, parameters)}))
    });
    described.collect()
}
