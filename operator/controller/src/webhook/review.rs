//! How does the API server ask, and how is it answered? Read leniently: what is not asked for may be
//! anything.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleetprof_core::inject::PatchOp;
use fleetprof_core::text::cut;
use fleetprof_crds::session::Requester;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Most bytes of what a warning quotes; the API server cuts warnings at 256 characters.
pub(super) const MAX_QUOTED: usize = 256;
/// Most bytes of a request's uid, which is a UUID, and of a namespace. Anybody may ask, and both are repeated.
const MAX_UID: usize = 128;
const MAX_NAMESPACE: usize = 253;

/// Whether an API server may have given a request this uid.
pub(super) fn is_uid(uid: &str) -> bool {
    uid.len() <= MAX_UID
}

/// An `AdmissionReview` with a request.
#[derive(Deserialize)]
pub(super) struct Review<'a> {
    #[serde(borrow)]
    pub request: Request<'a>,
}

/// What is asked. The object stays text until someone wants it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    pub operation: Cow<'a, str>,
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user_info: Option<&'a RawValue>,
}

impl Request<'_> {
    /// Whether an API server may have asked this.
    pub fn is_possible(&self) -> bool {
        is_uid(&self.uid) && self.namespace.len() <= MAX_NAMESPACE
    }

    /// Who asks; `None` when that cannot be read.
    pub fn user(&self) -> Option<Requester> {
        #[derive(Deserialize)]
        struct UserInfo {
            username: String,
            #[serde(default)]
            groups: Option<Vec<String>>,
        }
        let user: UserInfo = serde_json::from_str(self.user_info?.get()).ok()?;
        Some(Requester { username: user.username, groups: user.groups.unwrap_or_default() })
    }
}

/// An `AdmissionReview` with the answer: always allowed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reply<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[String; 1]>,
}

impl<'a> Reply<'a> {
    /// Allowed, changed by `patch`; an empty one changes nothing.
    pub fn patched(uid: &'a str, patch: &[PatchOp]) -> Self {
        // A patch made of JSON values is always written; if not, the object stays as it was.
        let patch = (!patch.is_empty())
            .then(|| serde_json::to_vec(patch).ok())
            .flatten()
            .map(|json| STANDARD.encode(json));
        Self::new(Response {
            uid,
            allowed: true,
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
            warnings: None,
        })
    }

    /// Allowed as it is, with a warning for whoever asked.
    pub fn warned(uid: &'a str, warning: &str) -> Self {
        let warning = [format!("fleetprof: {}", cut(warning, MAX_QUOTED))];
        Self::new(Response { uid, allowed: true, patch_type: None, patch: None, warnings: Some(warning) })
    }

    fn new(response: Response<'a>) -> Self {
        Self { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response }
    }
}
