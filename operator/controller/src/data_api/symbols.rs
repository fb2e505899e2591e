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
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
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

/// A request that is served: the route, what documents say of it, and the verb that the caller needs.
pub(super) struct Operation {
    pub(super) method: Method,
    of: Of,
    /// The verb of RBAC.
    pub(super) verb: &'static str,
    /// What it does, for documents.
    pub(super) about: &'static str,
    pub(super) query: &'static [Query],
    /// The media type of what is sent.
    pub(super) body: Option<&'static str>,
    route: fn(MethodFilter) -> MethodRouter<DataApi>,
}

/// A parameter of the query.
pub(super) struct Query {
    pub(super) name: &'static str,
    /// What it says, for documents.
    pub(super) about: &'static str,
    /// Its type in OpenAPI.
    pub(super) kind: &'static str,
    pub(super) is_required: bool,
}

const FIELD_SELECTOR: Query =
    Query { name: "fieldSelector", about: "only metadata.name=BUILD_ID", kind: "string", is_required: false };
const OFFSET: Query =
    Query { name: "offset", about: "where the piece begins in the file", kind: "integer", is_required: true };
const SIZE: Query = Query { name: "size", about: "bytes of the file", kind: "integer", is_required: true };
const SHA256: Query =
    Query { name: "sha256", about: "SHA-256 of the file, in hex", kind: "string", is_required: true };
const NAME: Query =
    Query { name: "name", about: "name of the file, for people", kind: "string", is_required: false };

/// All requests, in the order in which documents list them.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        of: Of::All,
        verb: "list",
        about: "the files with symbols that were uploaded",
        query: &[FIELD_SELECTOR],
        body: None,
        route: |method| on(method, list),
    },
    Operation {
        method: Method::GET,
        of: Of::One,
        verb: "get",
        about: "what is known of an uploaded file with symbols",
        query: &[],
        body: None,
        route: |method| on(method, one),
    },
    Operation {
        method: Method::DELETE,
        of: Of::One,
        verb: "delete",
        about: "deletes an uploaded file with symbols, by which later captures are named no more",
        query: &[],
        body: None,
        route: |method| on(method, delete),
    },
    Operation {
        method: Method::POST,
        of: Of::Content,
        verb: "create",
        about: "takes a piece of a file with symbols, of at most 2 MiB; says which one is wanted next",
        query: &[OFFSET, SIZE, SHA256, NAME],
        body: Some("application/octet-stream"),
        route: |method| on(method, receive),
    },
];

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// All files.
    All,
    /// One of them.
    One,
    /// What is in it.
    Content,
}

impl Operation {
    /// Its path, with the names of what varies in braces.
    pub(super) fn path(&self) -> String {
        let all = format!("/apis/{DATA_GROUP}/{VERSION}/{SYMBOLS}");
        match self.of {
            Of::All => all,
            Of::One => format!("{all}/{{name}}"),
            Of::Content => format!("{all}/{{name}}/{SYMBOLS_CONTENT}"),
        }
    }

    /// Whether it is about a single file.
    pub(super) fn is_of_one(&self) -> bool {
        self.of != Of::All
    }

    /// The resource that the caller needs its verb on.
    pub(super) fn resource(&self) -> String {
        match self.of {
            Of::All | Of::One => SYMBOLS.to_owned(),
            Of::Content => format!("{SYMBOLS}/{SYMBOLS_CONTENT}"),
        }
    }

    /// Its subject, in ids of documents.
    pub(super) const fn subject(&self) -> &'static str {
        match self.of {
            Of::All | Of::One => "Symbols",
            Of::Content => "SymbolsContent",
        }
    }
}

/// What is served.
pub(super) fn routes() -> Router<DataApi> {
    OPERATIONS.iter().fold(Router::new(), |router, operation| {
        match MethodFilter::try_from(operation.method.clone()) {
            Ok(method) => router.route(&operation.path(), (operation.route)(method)),
            Err(_) => router,
        }
    })
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
    let value = |wanted: &Query| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == wanted.name).map(|(_, value)| value.into_owned())
    };
    let number = |wanted: &Query| {
        let number = value(wanted).and_then(|text| text.parse::<u64>().ok());
        let wrong = |name| format!("{name} is missing, or is not a number: {name}=0");
        number.ok_or_else(|| Refusal::bad_request(wrong(wanted.name)))
    };
    let (offset, bytes) = (number(&OFFSET)?, number(&SIZE)?);
    let sha256 = value(&SHA256).unwrap_or_default().to_ascii_lowercase();
    let name = cut(&printable(&value(&NAME).unwrap_or_default()), MAX_NAME);
    Ok((Claim { build_id, name, bytes, sha256 }, offset))
}

/// The only object that is asked for, as kubectl does that waits for its deletion.
fn name_of(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, selector) = pairs.find(|(key, _)| key == FIELD_SELECTOR.name)?;
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
