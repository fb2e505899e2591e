//! What is answered to a caller who is known?

use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, RawQuery, State};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fleetprof_core::session::compare;
use fleetprof_crds::names::{DATA_GROUP, VERSION};
use fleetprof_crds::session_status::{StoredProfile, TargetStatus};
use fleetprof_crds::{ProfileKind, ProfileSession};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use tracing::info;

use super::DataApi;
use super::answers::Answers;
use super::authorize::Access;
use super::front_proxy::User;
use super::packed::{Packed, pack};
use super::params::{Param, Params};
use super::sessions::{is_name, is_of_same_workload, kind_of, previous, readable};
use super::status::Refusal;
use super::verdict::verdict;
use super::views::{
    BASE, BASE_POD, Content, IDLE, POD, PROCESS, Question, Rendered, TEST, TYPE, VIEWS, View,
};
use crate::results::{Idle, Load, READ_TIME, Reading};
use crate::server::{PeerInfo, Proof};

/// The caller, its connection, what it takes, and the memory for answers.
pub(super) struct Caller {
    pub(super) user: User,
    pub(super) proof: Proof,
    pub(super) answers: Answers,
    /// It wants a page.
    html: bool,
    /// It unpacks gzip.
    pub(super) gzip: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let extensions = &parts.extensions;
        let (user, answers) = extensions
            .get::<User>()
            .cloned()
            .zip(extensions.get::<Answers>().cloned())
            .ok_or_else(|| Refusal::unauthorized("the request has no user"))?;
        let proof = extensions.get::<PeerInfo>().map(|peer| peer.proof.clone()).unwrap_or_default();
        let takes = |header: HeaderName, value: &str| {
            let lists = parts.headers.get_all(header).into_iter().filter_map(|list| list.to_str().ok());
            lists.flat_map(|list| list.split(',')).any(|item| {
                item.split_once(';').map_or(item, |(item, _)| item).trim().eq_ignore_ascii_case(value)
            })
        };
        Ok(Self {
            user,
            proof,
            answers,
            html: takes(ACCEPT, "text/html"),
            gzip: takes(ACCEPT_ENCODING, "gzip"),
        })
    }
}

/// A session that may be read, and what is read of it. By uid, not by name: a later session of the same name
/// must not show what an earlier one captured.
pub(super) struct Found {
    pub(super) session: ProfileSession,
    pub(super) uid: String,
    pub(super) kind: ProfileKind,
    /// When its reader is given up.
    pub(super) until: Instant,
}

/// Answers a request for a view of a session.
pub(super) async fn read(
    view: &'static View,
    State(api): State<DataApi>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let params = Params::read(query.as_deref().unwrap_or_default(), view.all_params())?;
    let access = Access::view(namespace, name, view.name);
    // A verdict is of CPU time, whatever a session captured first.
    let of_verdict = (params.has(&TEST) && params.word(&TEST) == "true").then_some(ProfileKind::Cpu.name());
    let kind = params.text(&TYPE).or(of_verdict);
    let found = find(&api, &caller.user, &access, kind, params.text(&POD)).await?;
    let meant = stored(&found, &params, &POD, compare::main_targets(&found.session));
    let mut readings = vec![fetched(&api, &found, &params, &POD, meant).await?];
    let mut base = None;
    let render = match view.content(&params) {
        Content::File => return file(&api, &caller, &access, readings.remove(0)).await,
        Content::Stacks(render) => render,
        Content::Verdict => return verdict(&api, &caller, &access, &found, &params).await,
        Content::Comparison(render) => {
            let (name, reading) = base_of(&api, &caller.user, &access, &found, &params).await?;
            readings.push(reading);
            base = Some(name);
            render
        }
    };
    let html = caller.html && view.media.contains(&"text/html") && params.given("format").is_none();
    let Access { namespace, name, .. } = access;
    let file = format!("{namespace}-{name}");
    let question = Question { namespace, name, base, kind: found.kind, params, html };
    let gzip = caller.gzip;
    let work = move |load: Load<'_>| render(load, &question).map(|rendered| pack(rendered, gzip));
    let packed = api.results.stacks(readings, work).await??;
    let length = packed.rendered.body.len() as u64;
    let body = caller.answers.whole(&caller.user, &caller.proof, packed.rendered.body.clone())?;
    Ok(response(&packed, body, length, &file))
}

/// The profiles as a file.
async fn file(
    api: &DataApi,
    caller: &Caller,
    access: &Access,
    reading: Reading,
) -> Result<Response, Refusal> {
    let file = format!("{}-{}", access.namespace, access.name);
    let (answers, user, proof) = (&caller.answers, &caller.user, &caller.proof);
    if let Some(stored) = api.results.stored_file(reading.clone()).await? {
        let length = stored.length;
        let body = answers.file(user, proof, stored)?;
        return Ok(response(&pack(Rendered::pprof(Bytes::new()), false), body, length, &file));
    }
    let packed = pack(Rendered::pprof(api.results.session_profile(reading).await?), false);
    let length = packed.rendered.body.len() as u64;
    let body = answers.whole(user, proof, packed.rendered.body.clone())?;
    Ok(response(&packed, body, length, &file))
}

/// What is read of these profiles.
fn reading(found: &Found, params: &Params, pod: &Param, stored: &[StoredProfile]) -> Reading {
    let text = |param: &Param| params.text(param).map(str::to_owned);
    let idle = if params.word(&IDLE) == "true" { Idle::Shown } else { Idle::Folded };
    let keys = stored.iter().map(|profile| profile.uri.clone()).collect();
    Reading {
        pod: text(pod),
        process: text(&PROCESS),
        idle,
        keys: Some(keys),
        until: Some(found.until),
        ..Reading::of(&found.uid, found.kind)
    }
}

/// The profiles that are meant, as the session's status says where they are: those of the targets, or of the pod
/// that is named.
pub(super) fn stored<'a>(
    found: &'a Found,
    params: &Params,
    pod: &Param,
    targets: impl IntoIterator<Item = &'a TargetStatus>,
) -> Vec<StoredProfile> {
    let all = || found.session.status.iter().flat_map(|status| &status.targets);
    let targets: Vec<&TargetStatus> = match params.text(pod) {
        Some(pod) => all().filter(|target| target.pod == pod).collect(),
        None => targets.into_iter().collect(),
    };
    let profiles = targets.into_iter().flat_map(|target| &target.profiles);
    profiles.filter(|profile| profile.kind == found.kind && profile.samples > 0).cloned().collect()
}

/// What is read of the profiles that are meant, once those are back on the results volume that lie in another
/// destination alone.
async fn fetched(
    api: &DataApi,
    found: &Found,
    params: &Params,
    pod: &Param,
    stored: Vec<StoredProfile>,
) -> Result<Reading, Refusal> {
    let reading = reading(found, params, pod, &stored);
    api.results.fetch(&found.session, stored, found.until).await?;
    Ok(reading)
}

/// The name of the session that one is compared with, and what is read of it. A session that captured two
/// revisions is compared with itself, unless another one is named.
async fn base_of(
    api: &DataApi,
    user: &User,
    access: &Access,
    after: &Found,
    params: &Params,
) -> Result<(String, Reading), Refusal> {
    let own = compare::base_targets(&after.session);
    if !params.has(&BASE) && !own.is_empty() {
        let meant = stored(after, params, &BASE_POD, own);
        if !meant.is_empty() {
            return Ok((access.name.clone(), fetched(api, after, params, &BASE_POD, meant).await?));
        }
    }
    let (name, found) = base_session(api, user, access, after, params).await?;
    let meant = stored(&found, params, &BASE_POD, compare::main_targets(&found.session));
    Ok((name, fetched(api, &found, params, &BASE_POD, meant).await?))
}

/// The session that one is compared with, and its name. Its profiles are of the same kind.
pub(super) async fn base_session(
    api: &DataApi,
    user: &User,
    access: &Access,
    after: &Found,
    params: &Params,
) -> Result<(String, Found), Refusal> {
    let name = match params.text(&BASE) {
        Some(name) => name.to_owned(),
        None => {
            let picks = |other: &ProfileSession| is_of_same_workload(&after.session, other);
            let rollouts = api.sessions.rollouts(&access.namespace, &picks).await;
            let rollouts = rollouts.map_err(Refusal::unavailable)?;
            previous(&after.session, &rollouts, after.kind)?
        }
    };
    let access = Access { name: name.clone(), ..access.clone() };
    let found = find(api, user, &access, Some(after.kind.name()), params.text(&BASE_POD)).await?;
    Ok((name, Found { until: after.until, ..found }))
}

pub(super) fn response(packed: &Packed, body: Body, length: u64, file: &str) -> Response {
    let Rendered { content_type, extension, policy, .. } = packed.rendered;
    let mut response = body.into_response();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: HeaderValue| headers.insert(name, value);
    set(CONTENT_TYPE, HeaderValue::from_static(content_type));
    set(CONTENT_LENGTH, length.into());
    set(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    set(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if packed.gzip {
        set(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(policy) = policy {
        set(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    }
    // Names of objects are letters, digits, `-` and `.`.
    let name = |extension| HeaderValue::try_from(format!("attachment; filename=\"{file}.{extension}\""));
    if let Some(Ok(name)) = extension.map(name) {
        set(CONTENT_DISPOSITION, name);
    }
    response
}

/// Any other path.
pub(super) async fn unknown() -> Refusal {
    let views: Vec<&str> = VIEWS.iter().map(|view| view.name).collect();
    Refusal::not_found(format!(
        "not found: read /apis/{DATA_GROUP}/{VERSION}/namespaces/NAMESPACE/profilesessions/NAME/VIEW, where \
         VIEW is one of {}",
        views.join(", ")
    ))
}

/// The session, if it may be read and holds that kind of profile, of that pod if one is named.
async fn find(
    api: &DataApi,
    user: &User,
    access: &Access,
    kind: Option<&str>,
    pod: Option<&str>,
) -> Result<Found, Refusal> {
    let Access { namespace, name, subresource, .. } = access;
    let unknown = || {
        Refusal::not_found(format!(
            "profilesessions.fleetprof.dev \"{name}\" not found: see kubectl get profilesessions -n \
             {namespace}"
        ))
    };
    if !is_name(namespace) || !is_name(name) {
        return Err(Refusal::not_found("invalid name of a session: see kubectl get profilesessions"));
    }
    if !api.authorize.allows(user, access).await.map_err(Refusal::unavailable)? {
        return Err(Refusal::forbidden(format!(
            "user {:?} cannot get resource \"profilesessions/{subresource}\" in API group \"{DATA_GROUP}\" \
             in the namespace \"{namespace}\": ask for the ClusterRole fleetprof-viewer in that namespace",
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
        "profile read"
    );
    let uid = session.metadata.uid.clone().ok_or_else(unknown)?;
    Ok(Found { session, uid, kind, until: Instant::now() + READ_TIME })
}
