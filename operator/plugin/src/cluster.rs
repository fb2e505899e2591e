//! How is the API server asked? With the caller's kubeconfig, rights and proxies, and nothing else.
//!
//! ```text
//! flags + kubeconfig ─► Config ─► Client ─► send ─┬─ 401 ─► new client (credentials are read again), once, if
//!                                                 │         the kubeconfig still leads to the same cluster
//!                                                 ├─ 429 ─► wait, up to three times
//!                                                 └─ else ► answer, or a sentence on what is wrong
//! ```

use std::error::Error;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde_json::Value;

use crate::exit::Failure;
use crate::flags::Flags;
use crate::kubeconfig::Files;
use crate::lines::Lines;
use crate::proxy;
use crate::refusal;

/// How often a request that came too early is sent again.
const TRIES: u32 = 3;
/// The longest wait for the API server to have time.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The cluster that the flags choose.
pub(crate) struct Cluster {
    /// With the context that was the current one when the command began.
    flags: Flags,
    client: Mutex<Client>,
    namespace: String,
    place: Place,
}

/// Which cluster a command acts on. Another terminal may change the kubeconfig while a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    origin: Origin,
    url: http::Uri,
    /// Behind one address, such as that of a proxy for many clusters, this name may tell which is meant.
    tls_server_name: Option<String>,
}

/// Where it is known from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// The service account of the pod that this runs in.
    Pod,
    /// The kubeconfig and the flags, with this context.
    Kubeconfig(Option<String>),
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: http::Method,
    path: String,
    accept: &'static str,
    content: &'static str,
    body: Vec<u8>,
}

impl Ask {
    /// Reads JSON.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: http::Method::GET,
            path: path.into(),
            accept: "application/json",
            content: "application/json",
            body: Vec::new(),
        }
    }

    /// Creates an object.
    pub(crate) fn create(path: impl Into<String>, object: &Value) -> Self {
        Self { method: http::Method::POST, body: object.to_string().into_bytes(), ..Self::get(path) }
    }

    /// Sends bytes.
    pub(crate) fn send(path: impl Into<String>, body: Vec<u8>) -> Self {
        Self { method: http::Method::POST, content: "application/octet-stream", body, ..Self::get(path) }
    }

    /// Deletes an object.
    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self { method: http::Method::DELETE, ..Self::get(path) }
    }

    /// Changes some fields of an object.
    pub(crate) fn merge(path: impl Into<String>, patch: &Value) -> Self {
        Self {
            method: http::Method::PATCH,
            content: "application/merge-patch+json",
            body: patch.to_string().into_bytes(),
            ..Self::get(path)
        }
    }

    /// Applies some fields of an object (server-side apply).
    pub(crate) fn apply(path: impl Into<String>, object: &Value) -> Self {
        Self { content: "application/apply-patch+yaml", ..Self::merge(path, object) }
    }

    /// The same, as another type.
    #[must_use]
    pub(crate) fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    /// What is asked for.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn request(&self) -> Result<Request<Body>, Failure> {
        Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(header::ACCEPT, self.accept)
            .header(header::CONTENT_TYPE, self.content)
            .body(Body::from(self.body.clone()))
            .map_err(|error| Failure::error(format!("cannot request {}: {error}", self.path)))
    }
}

impl Cluster {
    /// Reads the kubeconfig. Sends nothing, but may run the credential plugin that the kubeconfig names.
    ///
    /// # Errors
    /// The kubeconfig cannot be read, or lacks what the flags name.
    pub(crate) async fn open(flags: &Flags) -> Result<Self, Failure> {
        let (client, namespace, place) = connect(flags).await?;
        let mut flags = flags.clone();
        if let Origin::Kubeconfig(context) = &place.origin {
            flags.context.clone_from(context);
        }
        Ok(Self { flags, client: Mutex::new(client), namespace, place })
    }

    /// The context that it was found by, so that nobody takes one cluster for another; empty without one.
    pub(crate) fn context(&self) -> &str {
        self.flags.context.as_deref().unwrap_or_default()
    }

    /// The namespace of the flags, else of the context.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The answer as JSON.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub(crate) async fn json(&self, ask: &Ask) -> Result<Value, Failure> {
        let bytes = self.bytes(ask).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::error(format!(
                "the response to {} is not JSON ({error}): something other than an API server answers, such as the \
                 login page of a proxy. Check the server of the kubeconfig's context: kubectl cluster-info",
                ask.path
            ))
        })
    }

    /// The answer as it is.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub(crate) async fn bytes(&self, ask: &Ask) -> Result<Vec<u8>, Failure> {
        self.in_time(ask, async {
            let response = self.send(ask).await?;
            body(response.into_body(), ask).await
        })
        .await
    }

    /// The answer line by line, as of a watch.
    ///
    /// # Errors
    /// The API server does not answer, or refuses.
    pub(crate) async fn lines(&self, ask: &Ask) -> Result<Lines, Failure> {
        let response = self.in_time(ask, self.send(ask)).await?;
        Ok(Lines::new(axum::body::Body::new(response.into_body())))
    }

    async fn in_time<T>(
        &self,
        ask: &Ask,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let limit = self.flags.request_timeout;
        if limit.is_zero() {
            return answer.await;
        }
        let late = || {
            Failure::error(format!(
                "the API server did not answer {} within {} s: raise --request-timeout",
                ask.path,
                limit.as_secs_f32()
            ))
        };
        tokio::time::timeout(limit, answer).await.map_err(|_| late())?
    }

    /// The answer whatever its status is, for a caller that passes it on. `--request-timeout` is the time until its
    /// headers, since its body may never end.
    ///
    /// # Errors
    /// The API server does not answer in time.
    pub(crate) async fn pass(&self, ask: &Ask) -> Result<Response<Body>, Failure> {
        self.in_time(ask, async {
            let response = self.once(ask).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            self.renew().await?;
            self.once(ask).await
        })
        .await
    }

    /// One try with the credentials that were read last.
    async fn once(&self, ask: &Ask) -> Result<Response<Body>, Failure> {
        let answer = self.client().send(ask.request()?).await;
        answer.map_err(|error| Failure::error(unreachable(&error)))
    }

    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the credentials again, for this cluster and no other.
    async fn renew(&self) -> Result<(), Failure> {
        let (client, _, place) = connect(&self.flags).await?;
        if place != self.place {
            return Err(Failure::error(
                "the API server does not accept your credentials any more, and the kubeconfig leads to another \
                 cluster than when this command began: start the command again",
            ));
        }
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    async fn send(&self, ask: &Ask) -> Result<Response<Body>, Failure> {
        let (mut renewed, mut tries) = (false, 1);
        loop {
            let response = self.once(ask).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if !renewed => {
                    renewed = true;
                    self.renew().await?;
                }
                StatusCode::TOO_MANY_REQUESTS if tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(wait(&response)).await;
                }
                status if status.is_client_error() || status.is_server_error() => {
                    let body = body(response.into_body(), ask).await?;
                    return Err(refusal::of(status.as_u16(), &ask.path, &body));
                }
                _ => return Ok(response),
            }
        }
    }
}

/// How long the API server asks to wait.
fn wait(response: &Response<Body>) -> Duration {
    let header = response.headers().get(header::RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(1);
    Duration::from_secs(seconds).clamp(Duration::from_millis(200), LONGEST_WAIT)
}

async fn body(body: Body, ask: &Ask) -> Result<Vec<u8>, Failure> {
    let bytes = body.collect().await;
    let bytes = bytes
        .map_err(|error| Failure::error(format!("the response to {} was cut short: {error}", ask.path)))?;
    Ok(bytes.to_bytes().to_vec())
}

/// An error of the connection with its causes, without those that only repeat.
fn unreachable(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !said.contains(&more) {
            let _ = write!(said, ": {more}");
        }
        cause = error.source();
    }
    format!("the request to the API server failed: {said}; check kubectl version")
}

async fn connect(flags: &Flags) -> Result<(Client, String, Place), Failure> {
    let (mut config, origin) = configured(flags).await?;
    if let Some(namespace) = &flags.namespace {
        config.default_namespace.clone_from(namespace);
    }
    // It would retry for hours, and without a word.
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    let place =
        Place { origin, url: config.cluster_url.clone(), tls_server_name: config.tls_server_name.clone() };
    let client = Client::try_from(config).map_err(|error| Failure::error(unreachable(&error)))?;
    Ok((client, namespace, place))
}

async fn configured(flags: &Flags) -> Result<(Config, Origin), Failure> {
    let files = Files::of(flags);
    let found = files.read()?;
    let names_one = found.as_ref().is_some_and(|kubeconfig| kubeconfig.current_context.is_some());
    // A kubeconfig that is named explicitly is used even if it names no cluster: an error is better than another one.
    if !flags.names_cluster() && !names_one && !files.are_named() {
        if let Some(config) = in_pod(flags) {
            return Ok((config, Origin::Pod));
        }
        if found.is_none() {
            return Err(files.missing());
        }
    }
    let kubeconfig = found.unwrap_or_default();
    let chosen = flags.apply(&kubeconfig)?;
    let loaded = Config::from_custom_kubeconfig(chosen.clone(), &KubeConfigOptions::default()).await;
    let mut config = loaded.map_err(|error| match error {
        // kube looks at the proxy too, but does not say where it is from.
        KubeconfigError::ParseProxyUrl(_) => no_proxy(match proxy::of_kubeconfig(&chosen) {
            Some(_) => proxy::OF_KUBECONFIG,
            None => "HTTPS_PROXY",
        }),
        error => Failure::error(format!("the kubeconfig cannot be used: {error}")),
    })?;
    config.proxy_url = proxy_of(&chosen, &config)?;
    Ok((config, Origin::Kubeconfig(flags.context.clone().or(kubeconfig.current_context))))
}

/// Where neither flags nor a kubeconfig name a cluster, the service account of the pod that this runs in, as kubectl
/// does; nothing outside of pods.
fn in_pod(flags: &Flags) -> Option<Config> {
    let mut config = Config::incluster().ok()?;
    config.disable_compression = flags.disable_compression;
    config.auth_info.impersonate.clone_from(&flags.as_user);
    config.auth_info.impersonate_uid.clone_from(&flags.as_uid);
    config.auth_info.impersonate_groups = (!flags.as_group.is_empty()).then(|| flags.as_group.clone());
    if let Some(token) = &flags.token {
        config.auth_info.token_file = None;
        config.auth_info.token = Some(token.clone().into());
    }
    Some(config)
}

fn proxy_of(chosen: &Kubeconfig, config: &Config) -> Result<Option<http::Uri>, Failure> {
    let url = &config.cluster_url;
    let scheme = url.scheme_str().unwrap_or("https");
    let port = url.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
    let target = (scheme, url.host().unwrap_or_default(), port);
    let proxy = proxy::choose(proxy::of_kubeconfig(chosen), target, |name| std::env::var(name).ok());
    proxy.map(|proxy| proxy.url.parse().map_err(|_| no_proxy(proxy.of))).transpose()
}

/// The URL is not repeated, since it may have a password.
fn no_proxy(of: &str) -> Failure {
    Failure::error(format!(
        "{of} is not a URL: write http://HOST:PORT, and escape special characters of a password as %XX"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_proxy_that_is_not_a_url_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let cluster = "{server: 'https://a.example:6443', proxy-url: 'http://ci:pa\"s s@proxy:3128'}";
        let file = format!(
            "current-context: a\ncontexts: [{{name: a, context: {{cluster: a}}}}]\n\
             clusters: [{{name: a, cluster: {cluster}}}]\n"
        );
        std::fs::write(&path, file).unwrap();
        let flags = Flags { kubeconfig: Some(path), ..Flags::default() };
        let said = configured(&flags).await.unwrap_err().to_string();
        assert!(said.starts_with("proxy-url in the kubeconfig is not a URL"), "{said}");
        assert!(!said.contains("ci:") && !said.contains("3128"), "{said}");
    }

    /// An API server that takes one token, and the tokens that it was sent.
    async fn server(token: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sent);
        let answer = move |headers: http::HeaderMap| {
            let given = headers[header::AUTHORIZATION].to_str().unwrap().replace("Bearer ", "");
            let code = if given == token { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            seen.lock().unwrap().push(given);
            std::future::ready((code, "{}"))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, axum::Router::new().fallback(answer)).into_future());
        (url, sent)
    }

    /// A kubeconfig with two contexts, and tokens for both clusters.
    fn two_contexts(current: &str, (a, token_a): (&str, &str), (b, token_b): (&str, &str)) -> String {
        json!({
            "current-context": current,
            "contexts": [{"name": "prod-a", "context": {"cluster": "a", "user": "a"}},
                {"name": "prod-b", "context": {"cluster": "b", "user": "b"}}],
            "clusters": [{"name": "a", "cluster": {"server": a}}, {"name": "b", "cluster": {"server": b}}],
            "users": [{"name": "a", "user": {"token": token_a}}, {"name": "b", "user": {"token": token_b}}],
        })
        .to_string()
    }

    #[tokio::test]
    async fn credentials_are_read_again_for_the_cluster_that_was_chosen_and_no_other() {
        let ((a, sent_to_a), (b, sent_to_b)) = (server("new").await, server("other").await);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let write = |current, a, token| {
            std::fs::write(&path, two_contexts(current, (a, token), (&b, "other"))).unwrap();
        };
        let flags = Flags { kubeconfig: Some(path.clone()), ..Flags::default() };
        write("prod-a", &a, "old");
        let (one, other) = (Cluster::open(&flags).await.unwrap(), Cluster::open(&flags).await.unwrap());
        let create = Ask::create("/apis/fleetprof.dev/v1alpha1/namespaces/shop/profilesessions", &json!({}));
        // As kubectl config use-context prod-b in another terminal.
        write("prod-b", &a, "new");
        one.json(&create).await.unwrap();
        assert_eq!(other.pass(&create).await.unwrap().status(), StatusCode::OK);
        assert_eq!(*sent_to_a.lock().unwrap(), ["old", "new", "old", "new"]);

        write("prod-a", &a, "old");
        let cluster = Cluster::open(&flags).await.unwrap();
        write("prod-a", &b, "other");
        let said = cluster.json(&create).await.unwrap_err().to_string();
        assert!(said.contains("start the command again"), "{said}");
        let said = cluster.pass(&create).await.err().unwrap().to_string();
        assert!(said.contains("start the command again"), "{said}");
        assert!(sent_to_b.lock().unwrap().is_empty(), "nothing is sent to another cluster");
    }

    #[tokio::test]
    async fn every_request_is_under_the_time_that_a_request_may_take() {
        // It takes connections and never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, "{apiVersion: v1, kind: Config}").unwrap();
        let flags = Flags {
            kubeconfig: Some(path),
            server: Some(format!("http://{}", silent.local_addr().unwrap())),
            request_timeout: Duration::from_millis(100),
            ..Flags::default()
        };
        let (cluster, ask) = (Cluster::open(&flags).await.unwrap(), Ask::get("/version"));
        let late = "the API server did not answer /version within 0.1 s: raise --request-timeout";
        assert_eq!(cluster.json(&ask).await.unwrap_err().to_string(), late);
        assert_eq!(cluster.pass(&ask).await.err().map(|error| error.to_string()).as_deref(), Some(late));
    }
}
