//! Whose is a projected token, by the word of the API server: a pod's, or that of the agent of a node?

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetprof_core::agent::AgentId;
use fleetprof_crds::names::AUDIENCE;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::super::PodId;
use super::{Identify, IdentifyError};
use crate::watched::Pods;

/// Reviews that wait for the API server at one time; the others wait for them.
const AT_ONCE: usize = 32;
/// How long a caller waits for its review, its turn included.
const TIMEOUT: Duration = Duration::from_secs(5);
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const ACCOUNT: &str = "system:serviceaccount:";

/// Asks the API server with a `TokenReview`.
pub struct TokenReviews {
    api: Api<TokenReview>,
    pods: Pods,
    node_account: Option<String>,
    turns: Semaphore,
}

impl TokenReviews {
    /// Reviews made with this client, which needs `create tokenreviews`. Answers hold longer while the pod is
    /// among `pods`. `node_account` is the user name of the agents of nodes, where there are such.
    #[must_use]
    pub fn new(client: Client, pods: Pods, node_account: Option<String>) -> Self {
        Self { api: Api::all(client), pods, node_account, turns: Semaphore::new(AT_ONCE) }
    }

    async fn review(&self, token: &str) -> Result<AgentId, IdentifyError> {
        let _turn = self.turns.acquire().await.map_err(|_| unavailable("The gateway is shutting down."))?;
        let spec =
            TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        match self.api.create(&PostParams::default(), &review).await {
            Ok(answer) => {
                let status = answer.status.unwrap_or_default();
                agent_of(status, self.node_account.as_deref()).map_err(IdentifyError::Refused)
            }
            Err(error) => {
                tracing::warn!(%error, "TokenReview failed");
                Err(unavailable("The TokenReview request failed; retry later."))
            }
        }
    }
}

impl Identify for TokenReviews {
    fn identify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<AgentId, IdentifyError>> {
        async move {
            let late = |_| unavailable("The TokenReview request timed out; retry later.");
            tokio::time::timeout(TIMEOUT, self.review(token)).await.map_err(late)?
        }
        .boxed()
    }

    fn is_there(&self, pod: &PodId) -> bool {
        self.pods.get(&pod.namespace, &pod.uid).is_some()
    }
}

/// When a token ends by its own word, which counts once the API server has vouched for it.
pub(super) fn expiry(token: &str) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(exp).ok()
}

fn unavailable(sentence: &str) -> IdentifyError {
    IdentifyError::Unavailable(sentence.to_owned())
}

/// The agent that a review vouches for, or a sentence on why it vouches for none. The API server's own error is
/// not passed on: it may quote the token.
fn agent_of(status: TokenReviewStatus, node_account: Option<&str>) -> Result<AgentId, String> {
    if status.authenticated != Some(true) {
        return Err("The API server rejected the token: it has expired, or its pod is gone.".to_owned());
    }
    if !status.audiences.unwrap_or_default().iter().any(|audience| audience == AUDIENCE) {
        return Err(format!("The token was not issued for the audience {AUDIENCE}."));
    }
    let user = status.user.unwrap_or_default();
    let namespace = namespace_of(&user).ok_or("The token does not belong to a service account.")?.to_owned();
    let unbound = "The token is not bound to a pod; use a projected service-account token.";
    let name = extra(&user, POD_NAME).ok_or(unbound)?.to_owned();
    let uid = extra(&user, POD_UID).ok_or(unbound)?.to_owned();
    let pod = PodId { namespace, name, uid };
    if node_account.is_none() || user.username.as_deref() != node_account {
        return Ok(AgentId::Pod(pod.into()));
    }
    let unbound = "The token of the node agent is not bound to a node, which Kubernetes 1.30 and later do.";
    Ok(AgentId::Node { name: extra(&user, NODE_NAME).ok_or(unbound)?.to_owned(), pod })
}

fn namespace_of(user: &UserInfo) -> Option<&str> {
    let (namespace, account) = user.username.as_deref()?.strip_prefix(ACCOUNT)?.split_once(':')?;
    (!namespace.is_empty() && !account.is_empty()).then_some(namespace)
}

/// The value of an extra field; fields with several values are ignored.
fn extra<'a>(user: &'a UserInfo, key: &str) -> Option<&'a str> {
    match user.extra.as_ref()?.get(key)?.as_slice() {
        [value] if !value.is_empty() => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> TokenReviewStatus {
        let extra = [(POD_NAME, "orders-1"), (POD_UID, "uid-1")];
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.to_owned()]),
            error: None,
            user: Some(UserInfo {
                username: Some("system:serviceaccount:shop:default".to_owned()),
                extra: Some(extra.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).into()),
                ..UserInfo::default()
            }),
        }
    }

    fn rejects(change: impl FnOnce(&mut TokenReviewStatus), word: &str) {
        let mut status = good();
        change(&mut status);
        let sentence = agent_of(status, None).unwrap_err();
        assert!(sentence.contains(word), "{sentence}");
    }

    fn change_extra(status: &mut TokenReviewStatus, key: &str, values: &[&str]) {
        let extra = status.user.as_mut().unwrap().extra.as_mut().unwrap();
        extra.insert(key.to_owned(), values.iter().map(|&value| value.to_owned()).collect());
    }

    #[test]
    fn a_pod_bound_token_of_our_audience_names_its_pod() {
        let pod = PodId { namespace: "shop".into(), name: "orders-1".into(), uid: "uid-1".into() };
        assert_eq!(agent_of(good(), None), Ok(AgentId::Pod(pod.into())));
    }

    #[test]
    fn the_account_of_node_agents_alone_serves_a_node_and_only_the_one_that_it_runs_on() {
        let own = "system:serviceaccount:shop:default";
        let node = |names: &[&str], account| {
            let mut status = good();
            change_extra(&mut status, NODE_NAME, names);
            agent_of(status, account).map(|agent| matches!(agent, AgentId::Node { name, .. } if name == "n1"))
        };
        assert_eq!(node(&["n1"], Some(own)), Ok(true));
        for account in [None, Some(""), Some("system:serviceaccount:shop:default2"), Some("default")] {
            assert_eq!(node(&["n1"], account), Ok(false), "{account:?} is a pod like any other");
        }
        for names in [&[][..], &[""], &["n1", "n2"]] {
            assert!(node(names, Some(own)).unwrap_err().contains("not bound to a node"), "{names:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        rejects(|status| *status = TokenReviewStatus::default(), "rejected the token");
        rejects(|status| status.authenticated = Some(false), "rejected the token");
        rejects(|status| status.audiences = None, "audience");
        rejects(|status| status.audiences = Some(vec!["https://kubernetes.default.svc".into()]), "audience");
        rejects(|status| status.user = None, "service account");
        rejects(|status| status.user.as_mut().unwrap().username = Some("jane".into()), "service account");
        rejects(
            |status| status.user.as_mut().unwrap().username = Some("system:serviceaccount::a".into()),
            "account",
        );
        rejects(|status| status.user.as_mut().unwrap().extra = None, "not bound");
        rejects(|status| change_extra(status, POD_UID, &[]), "not bound");
        rejects(|status| change_extra(status, POD_UID, &[""]), "not bound");
        rejects(|status| change_extra(status, POD_NAME, &["a", "b"]), "not bound");
    }

    #[test]
    fn the_end_of_a_token_is_read_where_there_is_one() {
        let token = |claims: &str| format!("eyJhbGciOiJSUzI1NiJ9.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(expiry(&token(r#"{"exp":1800000000,"iat":1}"#)).unwrap().as_second(), 1_800_000_000);
        let none =
            ["", "opaque", "a.%.c", &token("{}"), &token(r#"{"exp":"soon"}"#), &token(r#"{"exp":9e18}"#)];
        assert!(none.iter().all(|token| expiry(token).is_none()));
    }

    #[test]
    fn the_api_servers_error_is_not_passed_on() {
        let status =
            TokenReviewStatus { error: Some("token eyJ0 is bad".into()), ..TokenReviewStatus::default() };
        assert!(!agent_of(status, None).unwrap_err().contains("eyJ0"));
    }
}
