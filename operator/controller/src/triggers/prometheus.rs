//! What does the administrator's Prometheus answer? The queries of all policies, asked every 15 s by the
//! leader, in the order of [`fleetprof_core::trigger::questions`].
//!
//! Each question is bounded in time and size, and only a few are asked at once: a slow server delays
//! triggers, nothing else.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use fleetprof_core::trigger::promql::{self, Problem, Series};
use fleetprof_core::trigger::questions::{Question, Questions};
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::credentials::Credentials;
use super::memory::Memory;
use super::recheck::{Arrival, Recheck};
use crate::watched::PolicyCaches;

/// How often the policies are looked at for their queries.
const LOOK: Duration = Duration::from_secs(5);
/// How often queries become due, and what was answered is looked at.
const DUE: Duration = Duration::from_secs(1);
/// How long one answer may take; the server is told less.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What the server is told.
const SERVER_TIMEOUT: &str = "8s";
/// What to look at when nobody answers: a network policy in the way drops packets, which looks like a server
/// that is slow.
const ADVICE: &str = "check the chart value prometheus.url, and that networkPolicy.prometheusPorts contains \
                      the port of its pods";

/// Anybody on the way could read it and ask for all series.
const PLAIN_TOKEN: &str = "the token is not sent without encryption; use an https:// URL in the chart value \
                           prometheus.url, or remove the token from the Secret";

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
    let (server, started) = (Arc::new(server), Instant::now());
    let (mut look, mut due) = (every(LOOK), every(DUE));
    let (mut queue, mut asked, mut client) = (Questions::default(), JoinSet::new(), server.client());
    let mut is_news = false;
    loop {
        tokio::select! {
            _ = look.tick() => {
                let questions = questions(&policies);
                memory.keep_answers(&questions);
                queue.set(questions, started.elapsed());
                client = server.client();
            }
            _ = due.tick() => {
                if std::mem::take(&mut is_news) {
                    recheck.recheck(Arrival::QueryResults).await;
                }
            }
            Some(answered) = asked.join_next() => {
                let Answered { question, answer, took } = answered.context("a query panicked")?;
                queue.answered(&question, took);
                memory.take_answer(&question, answer, Timestamp::now());
                is_news = true;
            }
        }
        while let Some(question) = queue.next(started.elapsed()) {
            asked.spawn(ask(server.clone(), client.clone(), question));
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// What came of a query.
struct Answered {
    question: Question,
    answer: Answer,
    took: Duration,
}

async fn ask(server: Arc<Prometheus>, client: Result<HttpsClient, Problem>, question: Question) -> Answered {
    let began = Instant::now();
    let answer = match client {
        Ok(client) => server.ask(&client, &question.query).await,
        Err(problem) => Err(problem),
    };
    Answered { question, answer, took: began.elapsed() }
}

/// The queries of all policies that are not suspended.
fn questions(policies: &PolicyCaches) -> HashSet<Question> {
    let policies = policies.all();
    let views = policies.views();
    let asking = views.iter().filter(|p| !p.spec.suspend);
    asking
        .flat_map(|p| {
            p.spec.triggers.prom_ql.iter().map(move |t| Question {
                namespace: p.namespace.unwrap_or_default().to_owned(),
                policy: p.uid.to_owned(),
                name: t.name.clone(),
                query: t.query.clone(),
            })
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
            if !self.url.starts_with("https:") {
                return Err(PLAIN_TOKEN.into());
            }
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

/// The series of a query, or why there are none.
pub(super) type Answer = Result<Vec<Series>, Problem>;

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
    async fn a_token_is_not_sent_without_encryption() {
        let router = axum::Router::new().fallback(|| async { "it was asked" });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let plain = Prometheus { url, credentials: Some(Credentials::fixed("a-long-secret-token")) };
        let Err(Problem::Failed(why)) = plain.ask(&plain.client().unwrap(), "up").await else {
            panic!("it answered")
        };
        assert!(why.contains("use an https:// URL") && !why.contains("secret-token"), "{why}");
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
