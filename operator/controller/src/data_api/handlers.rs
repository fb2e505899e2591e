//! What is answered to a caller who is known?

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use fleetprof_crds::ProfileKind;
use fleetprof_crds::names::{DATA_GROUP, VERSION};
use fleetprof_profile::render_top;
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::DataApi;
use super::authorize::Access;
use super::front_proxy::User;
use super::sessions::{is_name, kind_of, readable};
use super::status::Refusal;

/// Functions in a table when the caller does not say.
const ROWS: usize = 20;
/// Most functions in a table.
const MAX_ROWS: usize = 1_000;

/// What can be asked of a profile.
#[derive(Debug, Deserialize)]
pub(super) struct ProfileQuery {
    /// What it counts; the first kind of the session when the caller does not say.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Only this pod's.
    pod: Option<String>,
}

/// What can be asked of a table.
#[derive(Debug, Deserialize)]
pub(super) struct TopQuery {
    /// What it counts; the first kind of the session when the caller does not say.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Only this pod's.
    pod: Option<String>,
    /// How many functions.
    n: Option<usize>,
    /// How it is written.
    #[serde(default)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Text,
    Json,
}

type Asked<T> = Result<Query<T>, QueryRejection>;

/// All profiles of a session as one gzipped pprof file.
pub(super) async fn profile(
    State(api): State<DataApi>,
    Path((namespace, name)): Path<(String, String)>,
    Extension(user): Extension<User>,
    query: Asked<ProfileQuery>,
) -> Result<Response, Refusal> {
    let ProfileQuery { kind, pod } = asked(query)?;
    let access = Access { namespace, name, subresource: "profile" };
    let (uid, kind) = find(&api, &user, &access, kind.as_deref(), pod.as_deref()).await?;
    let bytes = api.results.session_profile(&uid, kind, pod.as_deref()).await?;
    let file = format!("attachment; filename=\"{}-{}.pb.gz\"", access.namespace, access.name);
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, file),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, bytes).into_response())
}

/// The hottest functions of a session.
pub(super) async fn top(
    State(api): State<DataApi>,
    Path((namespace, name)): Path<(String, String)>,
    Extension(user): Extension<User>,
    query: Asked<TopQuery>,
) -> Result<Response, Refusal> {
    let TopQuery { kind, pod, n, format } = asked(query)?;
    let n = n.unwrap_or(ROWS);
    if !(1..=MAX_ROWS).contains(&n) {
        return Err(Refusal::bad_request(format!("n is {n}: ask for 1 to {MAX_ROWS} functions")));
    }
    let access = Access { namespace, name, subresource: "top" };
    let (uid, kind) = find(&api, &user, &access, kind.as_deref(), pod.as_deref()).await?;
    let top = api.results.top_table(&uid, kind, pod.as_deref(), n).await?;
    let headers = [(CACHE_CONTROL, "no-store")];
    if format == Format::Text {
        return Ok((headers, render_top(&top)).into_response());
    }
    let mut object = json!(top);
    object["kind"] = json!("ProfileTop");
    object["apiVersion"] = json!(format!("{DATA_GROUP}/{VERSION}"));
    object["metadata"] = json!({"namespace": access.namespace, "name": access.name});
    Ok((headers, axum::Json(object)).into_response())
}

/// Any other path.
pub(super) async fn unknown() -> Refusal {
    Refusal::not_found(format!(
        "there is nothing here: read \
         /apis/{DATA_GROUP}/{VERSION}/namespaces/NAMESPACE/profilesessions/NAME/profile or …/top"
    ))
}

fn asked<T>(query: Asked<T>) -> Result<T, Refusal> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(Refusal::bad_request(format!(
            "{}: the parameters are pod=NAME and type=cpu, and for top also n=20 and format=text or json",
            rejection.body_text()
        ))),
    }
}

/// The uid of the session that may be read, and the kind of its profiles that is meant. The uid, not the name: a session of the same name that came later
/// must not show what an earlier one captured.
async fn find(
    api: &DataApi,
    user: &User,
    access: &Access,
    kind: Option<&str>,
    pod: Option<&str>,
) -> Result<(String, ProfileKind), Refusal> {
    let Access { namespace, name, subresource } = access;
    let unknown = || {
        Refusal::not_found(format!(
            "profilesessions.fleetprof.dev \"{name}\" not found: see kubectl get profilesessions -n \
             {namespace}"
        ))
    };
    if !is_name(namespace) || !is_name(name) {
        return Err(Refusal::not_found("no session can have this name: see kubectl get profilesessions"));
    }
    if !api.authorize.allows(user, access).await.map_err(Refusal::unavailable)? {
        return Err(Refusal::forbidden(format!(
            "user {:?} cannot get resource \"profilesessions/{subresource}\" in API group \"{DATA_GROUP}\" \
             in the namespace \"{namespace}\": ask for the ClusterRole fleetprof-viewer there",
            user.name
        )));
    }
    let session =
        api.sessions.session(namespace, name).await.map_err(Refusal::unavailable)?.ok_or_else(unknown)?;
    let kind = kind_of(&session, kind)?;
    readable(&session, kind, pod)?;
    info!(
        k8s.namespace.name = %namespace,
        fleetprof.session.name = %name,
        enduser.id = %user.name,
        fleetprof.profile.kind = kind.name(),
        subresource,
        "captured profile read"
    );
    Ok((session.metadata.uid.ok_or_else(unknown)?, kind))
}
