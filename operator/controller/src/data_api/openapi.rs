//! How is this API described? Two small OpenAPI documents, which the API server merges with its own. They are made of the
//! same tables as the routes.

use axum::Json;
use fleetprof_crds::names::{DATA_GROUP, VERSION};
use serde_json::{Map, Value, json};

use super::symbols::{self, Operation};
use super::views::{VIEWS, View};

/// `/openapi/v2`.
pub(super) async fn v2() -> Json<Value> {
    let parameter = |about: &Parameter| {
        let mut parameter = about.schema.clone();
        parameter["name"] = json!(about.name);
        parameter["in"] = json!(about.place);
        parameter["required"] = json!(about.is_required);
        parameter["description"] = json!(about.about);
        parameter
    };
    let operation = |one: &Described| {
        let mut parameters: Vec<Value> = one.parameters.iter().map(parameter).collect();
        let mut operation = json!({
            "description": one.about,
            "operationId": one.id,
            "produces": one.media,
            "schemes": ["https"],
            "tags": [TAG],
            "responses": {
                "200": {"description": "OK", "schema": {"type": one.answer}},
                "401": {"description": "Unauthorized"},
            },
        });
        if let Some(media) = one.body {
            parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": binary()}));
            operation["consumes"] = json!([media]);
        }
        operation["parameters"] = json!(parameters);
        operation
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
            "required": about.is_required,
            "description": about.about,
        })
    };
    let operation = |one: &Described| {
        let schema = json!({"schema": {"type": one.answer}});
        let content: Map<String, Value> =
            one.media.iter().map(|media| ((*media).to_owned(), schema.clone())).collect();
        let mut operation = json!({
            "description": one.about,
            "operationId": one.id,
            "tags": [TAG],
            "parameters": one.parameters.iter().map(parameter).collect::<Vec<_>>(),
            "responses": {
                "200": {"description": "OK", "content": content},
                "401": {"description": "Unauthorized"},
            },
        });
        if let Some(media) = one.body {
            operation["requestBody"] = json!({"required": true, "content": {media: {"schema": binary()}}});
        }
        operation
    };
    Json(json!({"openapi": "3.0.0", "info": info(), "paths": paths(operation)}))
}

/// What groups the operations of this API.
const TAG: &str = "dataFleetprofDev_v1alpha1";
/// What ids of operations have after their verb.
const OF_API: &str = "DataFleetprofDevV1alpha1";

/// An operation in either version's terms.
struct Described {
    path: String,
    /// In lower case.
    method: String,
    id: String,
    about: &'static str,
    /// The media types that it answers with.
    media: Vec<&'static str>,
    /// The type of the answer.
    answer: &'static str,
    /// The media type of what is sent.
    body: Option<&'static str>,
    parameters: Vec<Parameter>,
}

/// A parameter in either version's terms.
struct Parameter {
    name: &'static str,
    place: &'static str,
    about: &'static str,
    schema: Value,
    is_required: bool,
}

/// A part of a path, which is text.
fn of_path(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, place: "path", about, schema: json!({"type": "string"}), is_required: true }
}

fn of_view(view: &View) -> Described {
    let query = view.all_params().map(|param| Parameter {
        name: param.name,
        place: "query",
        about: param.about,
        schema: param.schema(),
        is_required: false,
    });
    let path = [of_path("namespace", "namespace of the session"), of_path("name", "name of the session")];
    Described {
        path: format!(
            "/apis/{DATA_GROUP}/{VERSION}/namespaces/{{namespace}}/profilesessions/{{name}}/{}",
            view.name
        ),
        method: "get".to_owned(),
        id: format!("read{OF_API}NamespacedProfileSession_{}", view.name),
        about: view.about,
        media: view.media.to_vec(),
        answer: "string",
        body: None,
        parameters: path.into_iter().chain(query).collect(),
    }
}

fn of_symbols(operation: &Operation) -> Described {
    let query = operation.query.iter().map(|query| Parameter {
        name: query.name,
        place: "query",
        about: query.about,
        schema: json!({"type": query.kind}),
        is_required: query.is_required,
    });
    let path = operation.is_of_one().then(|| of_path("name", "build ID of the file"));
    Described {
        path: operation.path(),
        method: operation.method.as_str().to_ascii_lowercase(),
        id: format!("{}{OF_API}{}", operation.verb, operation.subject()),
        about: operation.about,
        media: vec!["application/json"],
        answer: "object",
        body: operation.body,
        parameters: path.into_iter().chain(query).collect(),
    }
}

fn binary() -> Value {
    json!({"type": "string", "format": "binary"})
}

fn info() -> Value {
    json!({"title": "fleetprof", "version": VERSION})
}

fn paths(operation: impl Fn(&Described) -> Value) -> Map<String, Value> {
    let all = VIEWS.iter().map(|view| of_view(view)).chain(symbols::OPERATIONS.iter().map(of_symbols));
    let mut paths = Map::new();
    for one in all {
        let methods = paths.entry(one.path.clone()).or_insert_with(|| json!({}));
        methods[&one.method] = operation(&one);
    }
    paths
}
