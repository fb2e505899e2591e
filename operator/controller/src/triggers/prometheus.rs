//! What does the administrator's Prometheus answer? The queries of all policies, asked every 15 s by the
//! leader.
//!
//! Each question is bounded in time and size, and only a few are asked at once: a slow server delays
//! triggers, nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fleetprof_core::trigger::promql::{self, Problem, Series};
use futures::StreamExt;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};

use super::credentials::Credentials;
use super::memory::Memory;
use super::recheck::{Arrival, Recheck};
use crate::watched::PolicyCaches;

/// How often.
const EVERY: Duration = Duration::from_secs(15);
/// How long one answer may take; the server is told less.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What the server is told.
const SERVER_TIMEOUT: &str = "8s";
/// Questions at once.
const AT_ONCE: usize = 4;
/// What to look at when nobody answers: a network policy in the way drops packets, which looks like a server
/// that is slow.
const ADVICE: &str = "check the chart value prometheus.url, and that networkPolicy.prometheusPorts contains \
                      the port of its pods";

/// The administrator's Prometheus.
pub struct Prometheus {
    /// Where it is, such as `http://prometheus.monitoring:9090`, without a slash at its end.
    pub url: String,
    /// The token to show, and the CA of its certificate.
    pub credentials: Option<Credentials>,
}

/// Asks for ever.
pub async fn ask_forever(
    server: Prometheus,
    policies: PolicyCaches,
    memory: Memory,
    recheck: Arc<dyn Recheck>,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let questions = questions(&policies);
        if questions.is_empty() {
            continue;
        }
        let client = server.client();
        let asked = futures::stream::iter(questions).map(|(policy, name, query)| {
            let client = &client;
            let server = &server;
            async move {
                let answer = match client {
                    Ok(client) => server.ask(client, &query).await,
                    Err(problem) => Err(problem.clone()),
                };
                (policy, name, query, answer)
            }
        });
        let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
        memory.take_answers(answers, Timestamp::now());
        recheck.recheck(Arrival::QueryResults).await;
    }
}

/// Each query with the uid of its policy and its name.
fn questions(policies: &PolicyCaches) -> Vec<(String, String, String)> {
    let policies = policies.all();
    let views = policies.views();
    let asking = views.iter().filter(|p| !p.spec.suspend);
    asking
        .flat_map(|p| {
            p.spec.triggers.prom_ql.iter().map(move |t| (p.uid.to_owned(), t.name.clone(), t.query.clone()))
        })
        .collect()
}

type HttpsClient = Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<bytes::Bytes>>;

impl Prometheus {
    fn client(&self) -> Result<HttpsClient, Problem> {
        let mut roots = RootCertStore::empty();
        let given = self.credentials.as_ref().map(Credentials::roots).unwrap_or_default();
        roots.add_parsable_certificates(given);
        if self.url.starts_with("https:") && roots.is_empty() {
            return Err(Problem::Failed(
                "no CA to verify the server: add ca.crt to the Secret in the chart value \
                 prometheus.existingSecret"
                    .into(),
            ));
        }
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| Problem::Failed(format!("failed to configure TLS: {error}")))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Client::builder(TokioExecutor::new()).build(connector))
    }

    async fn ask(&self, client: &HttpsClient, query: &str) -> Result<Vec<Series>, Problem> {
        match tokio::time::timeout(TIMEOUT, self.answer(client, query)).await {
            Ok(Ok(body)) => promql::parse(&body),
            Ok(Err(why)) => Err(Problem::Failed(why)),
            Err(_) => Err(Problem::Failed(format!(
                "Prometheus did not respond within {} s; {ADVICE}",
                TIMEOUT.as_secs()
            ))),
        }
    }

    async fn answer(&self, client: &HttpsClient, query: &str) -> Result<bytes::Bytes, String> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", query)
            .append_pair("timeout", SERVER_TIMEOUT)
            .finish();
        let mut request = Request::post(format!("{}/api/v1/query", self.url))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(token) = self.credentials.as_ref().and_then(Credentials::token) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request =
            request.body(Full::from(form)).map_err(|error| format!("invalid Prometheus URL: {error}"))?;
        let answer = client
            .request(request)
            .await
            .map_err(|_| format!("failed to connect to Prometheus; {ADVICE}"))?;
        let status = answer.status();
        if matches!(status.as_u16(), 401 | 403) {
            return Err(format!("Prometheus responded with {status}; check the token in the Secret"));
        }
        let body = Limited::new(answer.into_body(), promql::MAX_BYTES).collect().await;
        Ok(body
            .map_err(|_| {
                format!("the response of Prometheus was incomplete or exceeds {} bytes", promql::MAX_BYTES)
            })?
            .to_bytes())
    }
}

/// Answers by policy and name, for the memory.
pub(super) type Answers = Vec<(String, String, String, Result<Vec<Series>, Problem>)>;

/// What is known of the queries of a policy, by name.
pub(super) type KnownQueries = HashMap<String, promql::Known>;

#[cfg(test)]
mod tests {
    use super::*;

    async fn server(answer: &'static str) -> Prometheus {
        let ask = move |body: String| async move {
            assert!(body.starts_with("query=up+%3D%3D+0&timeout="), "{body}");
            answer
        };
        let router = axum::Router::new().route("/api/v1/query", axum::routing::post(ask));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Prometheus { url, credentials: None }
    }

    #[tokio::test]
    async fn a_query_is_asked_and_its_problem_told() {
        let good = server(r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":"a"},"value":[1,"0"]}]}}"#).await;
        assert_eq!(good.ask(&good.client().unwrap(), "up == 0").await.unwrap()[0].label("pod"), Some("a"));
        let bad = server(r#"{"status":"error","errorType":"bad_data","error":"1:4: parse error"}"#).await;
        assert_eq!(
            bad.ask(&bad.client().unwrap(), "up == 0").await,
            Err(Problem::Invalid("1:4: parse error".into()))
        );
        let gone = Prometheus { url: "http://127.0.0.1:1".into(), credentials: None };
        let Err(Problem::Failed(why)) = gone.ask(&gone.client().unwrap(), "up == 0").await else {
            panic!("it answered")
        };
        for words in ["failed to connect", "prometheus.url", "networkPolicy.prometheusPorts"] {
            assert!(why.contains(words), "{why}");
        }
        let no_ca = Prometheus { url: "https://127.0.0.1:1".into(), credentials: None };
        assert!(matches!(no_ca.client(), Err(Problem::Failed(w)) if w.contains("ca.crt")));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        let endless = axum::Router::new()
            .route("/api/v1/query", axum::routing::post(|| async { "x".repeat(promql::MAX_BYTES + 1) }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server =
            Prometheus { url: format!("http://{}", listener.local_addr().unwrap()), credentials: None };
        tokio::spawn(async move { axum::serve(listener, endless).await });
        assert!(
            matches!(server.ask(&server.client().unwrap(), "q").await, Err(Problem::Failed(w)) if w.contains("exceeds"))
        );
    }
}
