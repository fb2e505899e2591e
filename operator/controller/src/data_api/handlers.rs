//! What is answered to a caller who is known?

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::names::{DATA_GROUP, VERSION};
use fleetprof_profile::Profile;
use http::request::Parts;
use tracing::info;

use super::DataApi;
use super::answers::Answers;
use super::authorize::Access;
use super::front_proxy::User;
use super::params::Params;
use super::sessions::{is_name, kind_of, readable};
use super::status::Refusal;
use super::views::{Content, IDLE, POD, Question, Rendered, TYPE, VIEWS, View};
use crate::results::Idle;
use crate::server::{PeerInfo, Proof};

/// The caller, its connection, and the memory for answers.
pub(super) struct Caller {
    user: User,
    proof: Proof,
    answers: Answers,
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
        Ok(Self { user, proof, answers })
    }
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
    let access = Access { namespace, name, subresource: view.name };
    let pod = params.text(&POD).map(str::to_owned);
    let (uid, kind) = find(&api, &caller.user, &access, params.text(&TYPE), pod.as_deref()).await?;
    let Access { namespace, name, .. } = access;
    let question = Question { namespace, name, params };
    let file = format!("{}-{}", question.namespace, question.name);
    let rendered = match view.content {
        Content::File => match api.results.stored_file(&uid, kind, pod.as_deref()).await? {
            Some(stored) => {
                let length = stored.length;
                let body = caller.answers.file(&caller.user, &caller.proof, stored)?;
                return Ok(response(Rendered::pprof(Bytes::new()), body, length, &file));
            }
            None => Rendered::pprof(api.results.session_profile(&uid, kind, pod.as_deref()).await?),
        },
        Content::Stacks(render) => {
            let idle = if question.params.word(&IDLE) == "true" { Idle::Shown } else { Idle::Folded };
            let render = move |profile: &Profile| render(profile, &question);
            api.results.stacks(&uid, kind, pod.as_deref(), idle, render).await??
        }
    };
    let length = rendered.body.len() as u64;
    let body = caller.answers.whole(&caller.user, &caller.proof, rendered.body.clone())?;
    Ok(response(rendered, body, length, &file))
}

fn response(rendered: Rendered, body: Body, length: u64, file: &str) -> Response {
    let Rendered { content_type, extension, .. } = rendered;
    let length = (CONTENT_LENGTH, length.to_string());
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")];
    match extension {
        None => (headers, [length], body).into_response(),
        Some(extension) => {
            let file = format!("attachment; filename=\"{file}.{extension}\"");
            (headers, [(CONTENT_DISPOSITION, file), length], body).into_response()
        }
    }
}

/// Any other path.
pub(super) async fn unknown() -> Refusal {
    let views: Vec<&str> = VIEWS.iter().map(|view| view.name).collect();
    Refusal::not_found(format!(
        "not found: read /apis/{DATA_GROUP}/{VERSION}/namespaces/NAMESPACE/profilesessions/NAME/VIEW, where \
         VIEW is {}",
        views.join(" or ")
    ))
}

/// The uid of the session that may be read, and the kind of its profiles that is meant. The uid, not the
/// name: a later session of the same name must not show what an earlier one captured.
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
    Ok((session.metadata.uid.ok_or_else(unknown)?, kind))
}
