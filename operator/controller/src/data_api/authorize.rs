//! May the caller read this? The cluster's own authorizer is asked, as the API server asked it before.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleetprof_crds::names::{DATA_GROUP, SYMBOLS, VERSION};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::front_proxy::User;
use crate::sha256::sha256;

/// How long an answer is believed.
const BELIEVED: Duration = Duration::from_secs(10);
/// Most answers remembered.
const REMEMBERED: usize = 1_024;
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a caller wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// The verb of RBAC, such as `get`.
    pub verb: &'static str,
    /// The resource, such as `profilesessions`.
    pub resource: &'static str,
    /// Namespace of the session; empty for what has none.
    pub namespace: String,
    /// Name of the session, or another object; empty for all of them.
    pub name: String,
    /// Name of the view, such as `top`, or another subresource; empty for the object itself.
    pub subresource: &'static str,
}

impl Access {
    /// Reading a view of a session.
    #[must_use]
    pub const fn view(namespace: String, name: String, view: &'static str) -> Self {
        Self { verb: "get", resource: "profilesessions", namespace, name, subresource: view }
    }

    /// Doing something with uploaded symbols.
    #[must_use]
    pub const fn symbols(verb: &'static str, name: String, subresource: &'static str) -> Self {
        Self { verb, resource: SYMBOLS, namespace: String::new(), name, subresource }
    }
}

/// Answers whether a caller may do something.
pub trait Authorize: Send + Sync + 'static {
    /// Whether `user` may do it.
    ///
    /// # Errors
    /// A sentence, when nobody could be asked.
    fn allows<'a>(&'a self, user: &'a User, access: &'a Access) -> BoxFuture<'a, Result<bool, String>>;
}

/// Asks the API server by `SubjectAccessReview`; answers are believed for 10 s.
pub struct AccessReviews {
    api: Api<SubjectAccessReview>,
    believed: Duration,
    answers: Mutex<HashMap<[u8; 32], (Instant, bool)>>,
}

impl AccessReviews {
    /// Asks as `client`, which needs `create subjectaccessreviews`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::believing(client, BELIEVED)
    }

    /// The same with another time for which an answer is believed.
    pub(super) fn believing(client: Client, believed: Duration) -> Self {
        Self { api: Api::all(client), believed, answers: Mutex::default() }
    }

    fn known(&self, question: &[u8; 32]) -> Option<bool> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .get(question)
            .filter(|(asked, _)| asked.elapsed() < self.believed)
            .map(|(_, allowed)| *allowed)
    }

    fn remember(&self, question: [u8; 32], asked: Instant, allowed: bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= REMEMBERED {
            answers.retain(|_, (asked, _)| asked.elapsed() < self.believed);
        }
        if answers.len() >= REMEMBERED {
            answers.clear();
        }
        answers.insert(question, (asked, allowed));
    }

    async fn ask(&self, spec: SubjectAccessReviewSpec) -> Result<bool, String> {
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let params = PostParams::default();
        let answer = tokio::time::timeout(TIMEOUT, self.api.create(&params, &review)).await;
        let failed =
            |why: String| format!("failed to check permissions with the API server ({why}): try again");
        let review =
            answer.map_err(|_| failed("timeout".to_owned()))?.map_err(|error| failed(error.to_string()))?;
        Ok(review.status.is_some_and(|status| status.allowed && !status.denied.unwrap_or(false)))
    }
}

impl Authorize for AccessReviews {
    fn allows<'a>(&'a self, user: &'a User, access: &'a Access) -> BoxFuture<'a, Result<bool, String>> {
        async move {
            let spec = question(user, access);
            let text = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
            let digest = sha256(&text);
            if let Some(allowed) = self.known(&digest) {
                return Ok(allowed);
            }
            let asked = Instant::now();
            let allowed = self.ask(spec).await?;
            self.remember(digest, asked, allowed);
            Ok(allowed)
        }
        .boxed()
    }
}

/// The question as the API server wants it.
fn question(user: &User, access: &Access) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: user.uid.clone(),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()),
        resource_attributes: Some(ResourceAttributes {
            group: Some(DATA_GROUP.to_owned()),
            version: Some(VERSION.to_owned()),
            resource: Some(access.resource.to_owned()),
            subresource: given(access.subresource),
            namespace: given(&access.namespace),
            name: given(&access.name),
            verb: Some(access.verb.to_owned()),
            ..ResourceAttributes::default()
        }),
        non_resource_attributes: None,
    }
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_answers_that_are_remembered_are_bounded() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let reviews = AccessReviews::new(Client::try_from(config).unwrap());
        for n in 0..5_u32 * 1_024 {
            let mut question = [0; 32];
            question[..4].copy_from_slice(&n.to_le_bytes());
            reviews.remember(question, Instant::now(), true);
            assert_eq!(reviews.known(&question), Some(true));
        }
        assert!(reviews.answers.lock().unwrap().len() <= REMEMBERED);
    }
}
