//! Is one session slower than another? The verdict of `/diff?test=true`, for machines.

use axum::response::Response;
use fleetprof_core::session::compare;
use fleetprof_crds::ProfileKind;
use fleetprof_profile::verdict::Verdict;
use serde::Serialize;

use super::DataApi;
use super::authorize::Access;
use super::handlers::{Caller, Found, base_session, response, stored};
use super::packed::pack;
use super::params::Params;
use super::render::Object;
use super::status::Refusal;
use super::views::{BASE, DIFF_FORMAT, POD, Question, Rendered, TEST, TYPE};

/// A verdict with its words.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    #[serde(flatten)]
    verdict: Verdict,
    /// The old revision, where it is known.
    base_revision: String,
    message: String,
}

/// Compares a session with the one that is named, or one that captured two revisions with itself.
pub(super) async fn verdict(
    api: &DataApi,
    caller: &Caller,
    access: &Access,
    found: &Found,
    params: &Params,
) -> Result<Response, Refusal> {
    refuse(found.kind, params)?;
    let base = match !params.has(&BASE) && !compare::base_targets(&found.session).is_empty() {
        true => None,
        false => Some(base_session(api, &caller.user, access, found, params).await?),
    };
    for read in [Some(found), base.as_ref().map(|(_, base)| base)].into_iter().flatten() {
        let targets = read.session.status.iter().flat_map(|status| &status.targets);
        api.results.fetch(&read.session, stored(read, params, &POD, targets), found.until).await?;
    }
    let comparing = compare::between(&found.session, base.as_ref().map(|(_, base)| &base.session));
    let base_revision = comparing.base_revision.clone();
    let verdict = api.results.compare_for_reader(&found.uid, comparing, found.until).await?;
    let said = Said { message: verdict.message(), base_revision, verdict };
    let question = Question {
        namespace: access.namespace.clone(),
        name: access.name.clone(),
        base: Some(base.map_or_else(|| access.name.clone(), |(name, _)| name)),
        kind: found.kind,
        params: params.clone(),
        html: false,
    };
    let rendered = match params.given("format") {
        Some("text") => Rendered::text(format!("{}\n", said.message)),
        _ => Object::new("ProfileVerdict", &question, &said).json()?,
    };
    let packed = pack(rendered, caller.gzip);
    let length = packed.rendered.body.len() as u64;
    let body = caller.answers.whole(&caller.user, &caller.proof, packed.rendered.body.clone())?;
    Ok(response(&packed, body, length, &format!("{}-{}", access.namespace, access.name)))
}

/// # Errors
/// 400: what is asked for is not what a verdict is of.
fn refuse(kind: ProfileKind, params: &Params) -> Result<(), Refusal> {
    if kind != ProfileKind::Cpu {
        return Err(Refusal::bad_request(format!(
            "test=true compares CPU profiles, and {kind} was asked for: use type=cpu"
        )));
    }
    let ignored = |name: &str| ![BASE, TYPE, TEST, DIFF_FORMAT].iter().any(|param| param.name == name);
    if let Some(name) = params.names().find(|name| ignored(name)) {
        return Err(Refusal::bad_request(format!(
            "test=true compares all CPU profiles of both sessions: omit {name}"
        )));
    }
    match params.given(DIFF_FORMAT.name) {
        None | Some("text" | "json") => Ok(()),
        Some(other) => Err(Refusal::bad_request(format!(
            "test=true answers with a verdict, which has no {other}: use format=json or format=text"
        ))),
    }
}
