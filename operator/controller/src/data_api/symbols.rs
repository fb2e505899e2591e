//! How are files with symbols uploaded, listed and deleted? By people with a right of its own.
//!
//! ```text
//! POST   …/symbols/ID/content?offset=&size=&sha256=&name=   create symbols/content   ─► offset of the next piece
//! GET    …/symbols, …/symbols/ID                            list, get
//! DELETE …/symbols/ID                                       delete
//! ```
//! What is uploaded puts names into the profiles of all namespaces, so no role for tenants grants it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use fleetprof_core::text::{cut, printable};
use fleetprof_crds::names::{DATA_GROUP, MAX_SYMBOLS_PIECE, SYMBOLS, SYMBOLS_CONTENT, SYMBOLS_ROLE, VERSION};
use fleetprof_profile::resolve::is_build_id;
use serde_json::{Value, json};

use super::DataApi;
use super::authorize::Access;
use super::front_proxy::User;
use super::handlers::Caller;
use super::status::Refusal;
use crate::server::{Bodies, BodyError, HeldBody, Holder, Pace};
use crate::symbols::uploads::{Claim, Listed, MAX_NAME, Piece, Progress, Refused};

/// Kind of the objects.
pub(super) const KIND: &str = "Symbols";
/// Memory for the pieces of one person; making one piece of what comes in parts takes twice its size.
const EACH: usize = 2 * MAX_SYMBOLS_PIECE + (64 << 10);
/// Memory for those of all.
const ALL: usize = 2 * EACH;
/// How fast a piece must come: within the 60 s that API servers give a request.
const PACE: Pace = Pace { grace: Duration::from_secs(10), bytes_per_second: 64 << 10 };

/// The memory for pieces.
pub(super) fn bodies() -> Bodies {
    Bodies::new(EACH, ALL)
}

/// What is served.
pub(super) fn routes() -> Router<DataApi> {
    let all = format!("/apis/{DATA_GROUP}/{VERSION}/{SYMBOLS}");
    Router::new()
        .route(&all, get(list))
        .route(&format!("{all}/{{id}}"), get(one).delete(delete))
        .route(&format!("{all}/{{id}}/{SYMBOLS_CONTENT}"), post(receive))
}

async fn list(
    State(api): State<DataApi>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refusal> {
    allow(&api, &caller.user, &Access::symbols("list", String::new(), "")).await?;
    let wanted = name_of(query.as_deref().unwrap_or_default());
    let (all, warning) = api.results.uploaded_symbols().map_err(refusal)?;
    let items: Vec<Value> = all
        .iter()
        .filter(|one| wanted.as_ref().is_none_or(|name| *name == one.file.build_id))
        .map(object)
        .collect();
    let mut list = json!({
        "kind": format!("{KIND}List"), "apiVersion": api_version(), "metadata": {}, "items": items,
    });
    if let Some(warning) = warning {
        list["warning"] = json!(warning);
    }
    Ok(Json(list))
}

async fn one(
    State(api): State<DataApi>,
    Path(id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    let id = named(id)?;
    allow(&api, &caller.user, &Access::symbols("get", id.clone(), "")).await?;
    let (all, _) = api.results.uploaded_symbols().map_err(refusal)?;
    let found = all.iter().find(|one| one.file.build_id == id);
    found.map(|one| Json(object(one))).ok_or_else(|| {
        Refusal::not_found(format!(
            "{SYMBOLS}.{DATA_GROUP} {id:?} not found: see kubectl fleetprof symbols ls"
        ))
    })
}

async fn delete(
    State(api): State<DataApi>,
    Path(id): Path<String>,
    caller: Caller,
) -> Result<Json<Value>, Refusal> {
    let id = named(id)?;
    allow(&api, &caller.user, &Access::symbols("delete", id.clone(), "")).await?;
    api.results.delete_symbols(&id).await.map_err(refusal)?;
    tracing::info!(file.build_id = %id, enduser.id = %caller.user.name, "symbols deleted");
    let details = json!({"name": id, "group": DATA_GROUP, "kind": SYMBOLS});
    Ok(Json(
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
    ))
}

async fn receive(
    State(api): State<DataApi>,
    Path(id): Path<String>,
    caller: Caller,
    RawQuery(query): RawQuery,
    Extension(bodies): Extension<Bodies>,
    request: Request,
) -> Result<Response, Refusal> {
    let id = named(id)?;
    allow(&api, &caller.user, &Access::symbols("create", id.clone(), SYMBOLS_CONTENT)).await?;
    let (claim, offset) = claim(id, query.as_deref().unwrap_or_default())?;
    let user = caller.user.name;
    let held = body(&bodies, &user, request.into_body()).await?;
    let piece = Piece { claim, user, offset, bytes: held.bytes.clone() };
    let (size, id) = (piece.claim.bytes, piece.claim.build_id.clone());
    let progress = api.results.upload_symbols(piece).await.map_err(refusal)?;
    let (phase, offset) = match progress {
        Progress::Receiving(offset) => ("Receiving", offset),
        Progress::Checking => ("Checking", size),
        Progress::Stored(_) => ("Stored", size),
    };
    let mut answer =
        json!({"kind": "SymbolsUpload", "apiVersion": api_version(), "phase": phase, "offset": offset});
    if let Some(warning) = api.results.alone_symbols(&id).filter(|_| phase == "Stored") {
        answer["warning"] = json!(warning);
    }
    Ok(Json(answer).into_response())
}

async fn body(bodies: &Bodies, user: &str, body: Body) -> Result<HeldBody, Refusal> {
    let holder = Holder::User(user.to_owned());
    let read = bodies.read(&holder, body, MAX_SYMBOLS_PIECE, PACE).await;
    read.map_err(|error| match error {
        BodyError::TooLarge => Refusal::too_large(format!(
            "a piece has {} MiB at most: send the file in several requests, each with its offset",
            MAX_SYMBOLS_PIECE >> 20
        )),
        BodyError::TooSlow => Refusal::bad_request("the piece did not come in time: send smaller ones"),
        BodyError::Incomplete => Refusal::bad_request("the piece ended early: send it again"),
        BodyError::NoRoom(_) => Refusal::busy("others are uploading files: try again in a few seconds"),
    })
}

/// Whether the caller may do it.
async fn allow(api: &DataApi, user: &User, access: &Access) -> Result<(), Refusal> {
    if api.authorize.allows(user, access).await.map_err(Refusal::unavailable)? {
        return Ok(());
    }
    let Access { verb, resource, subresource, .. } = access;
    let resource =
        if subresource.is_empty() { (*resource).to_owned() } else { format!("{resource}/{subresource}") };
    Err(Refusal::forbidden(format!(
        "user {:?} cannot {verb} resource {resource:?} in API group \"{DATA_GROUP}\" at the cluster scope: ask \
         for the ClusterRole {SYMBOLS_ROLE}",
        user.name
    )))
}

/// The name of an object, if it can be one.
fn named(id: String) -> Result<String, Refusal> {
    match is_build_id(&id) {
        true => Ok(id),
        false => Err(Refusal::not_found(
            "symbols are named by their build ID: 8 to 64 lower-case hex digits, an even number",
        )),
    }
}

/// What the query says of a file, and where the piece begins.
fn claim(build_id: String, query: &str) -> Result<(Claim, u64), Refusal> {
    let value = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let number = |name: &str| {
        let number = value(name).and_then(|text| text.parse::<u64>().ok());
        number.ok_or_else(|| Refusal::bad_request(format!("{name} is missing, or is not a number: {name}=0")))
    };
    let (offset, bytes) = (number("offset")?, number("size")?);
    let sha256 = value("sha256").unwrap_or_default().to_ascii_lowercase();
    let name = cut(&printable(&value("name").unwrap_or_default()), MAX_NAME);
    Ok((Claim { build_id, name, bytes, sha256 }, offset))
}

/// The only object that is asked for, as kubectl does that waits for its deletion.
fn name_of(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, selector) = pairs.find(|(key, _)| key == "fieldSelector")?;
    Some(selector.strip_prefix("metadata.name=")?.to_owned())
}

fn api_version() -> String {
    format!("{DATA_GROUP}/{VERSION}")
}

fn object(listed: &Listed) -> Value {
    let one = &listed.file;
    let mut object = json!({
        "kind": KIND, "apiVersion": api_version(),
        "metadata": {"name": one.build_id, "creationTimestamp": one.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()},
        "file": one.name, "bytes": one.bytes, "sha256": one.sha256, "uploadedBy": one.by, "source": "Upload",
    });
    if let Some(archived) = listed.archived {
        object["archived"] = json!(archived);
    }
    object
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Invalid(why) => Refusal::bad_request(why),
        Refused::TooLarge(why) => Refusal::too_large(why),
        Refused::Busy(why) => Refusal::busy(why),
        Refused::Absent(why) => Refusal::not_found(why),
        Refused::Failed(why) => Refusal::failed(why),
    }
}
