//! How is this API described? Two small OpenAPI documents, which the API server merges with its own.

use axum::Json;
use fleetprof_crds::names::{DATA_GROUP, VERSION};
use serde_json::{Map, Value, json};

use super::views::{VIEWS, View};

/// `/openapi/v2`.
pub(super) async fn v2() -> Json<Value> {
    let parameter = |about: &Parameter| {
        let mut parameter = about.schema.clone();
        parameter["name"] = json!(about.name);
        parameter["in"] = json!(about.place);
        parameter["required"] = json!(about.place == "path");
        parameter["description"] = json!(about.about);
        parameter
    };
    let operation = |view: &View| {
        json!({
            "description": view.about,
            "operationId": operation_id(view),
            "produces": view.media,
            "schemes": ["https"],
            "tags": ["dataFleetprofDev_v1alpha1"],
            "parameters": parameters(view).iter().map(parameter).collect::<Vec<_>>(),
            "responses": {
                "200": {"description": "OK", "schema": {"type": "string"}},
                "401": {"description": "Unauthorized"},
            },
        })
    };
    Json(json!({"swagger": "2.0", "info": info(), "paths": paths(operation)}))
}

/// `/openapi/v3`.
pub(super) async fn v3_index() -> Json<Value> {
    let path = format!("apis/{DATA_GROUP}/{VERSION}");
    let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
    Json(json!({"paths": {path: {"serverRelativeURL": url}}}))
}

/// `/openapi/v3/apis/GROUP/VERSION`.
pub(super) async fn v3() -> Json<Value> {
    let parameter = |about: &Parameter| {
        json!({
            "name": about.name,
            "in": about.place,
            "schema": about.schema,
            "required": about.place == "path",
            "description": about.about,
        })
    };
    let operation = |view: &View| {
        let schema = json!({"schema": {"type": "string"}});
        let content: Map<String, Value> =
            view.media.iter().map(|media| ((*media).to_owned(), schema.clone())).collect();
        json!({
            "description": view.about,
            "operationId": operation_id(view),
            "tags": ["dataFleetprofDev_v1alpha1"],
            "parameters": parameters(view).iter().map(parameter).collect::<Vec<_>>(),
            "responses": {
                "200": {"description": "OK", "content": content},
                "401": {"description": "Unauthorized"},
            },
        })
    };
    Json(json!({"openapi": "3.0.0", "info": info(), "paths": paths(operation)}))
}

/// A parameter in either version's terms.
struct Parameter {
    name: &'static str,
    place: &'static str,
    about: &'static str,
    schema: Value,
}

fn parameters(view: &View) -> Vec<Parameter> {
    let text = json!({"type": "string"});
    let path = [("namespace", "namespace of the session"), ("name", "name of the session")]
        .map(|(name, about)| Parameter { name, place: "path", about, schema: text.clone() });
    let query = view.all_params().map(|param| Parameter {
        name: param.name,
        place: "query",
        about: param.about,
        schema: param.schema(),
    });
    path.into_iter().chain(query).collect()
}

fn operation_id(view: &View) -> String {
    format!("readDataFleetprofDevV1alpha1NamespacedProfileSession_{}", view.name)
}

fn info() -> Value {
    json!({"title": "fleetprof", "version": VERSION})
}

fn paths(operation: impl Fn(&View) -> Value) -> Map<String, Value> {
    let session = format!("/apis/{DATA_GROUP}/{VERSION}/namespaces/{{namespace}}/profilesessions/{{name}}");
    VIEWS.iter().map(|view| (format!("{session}/{}", view.name), json!({"get": operation(view)}))).collect()
}
