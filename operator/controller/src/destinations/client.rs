//! How does the operator talk to a destination? With one HTTP client, whose TLS is that of the whole operator.
//!
//! The image holds no CA bundle, so Mozilla's roots are linked in; an administrator adds a CA by `ca.crt`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::credentials::Secrets;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time from a request to the head of its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(30);

/// A connector to http and https.
pub(crate) type Connector = HttpsConnector<HttpConnector>;

/// A connector that trusts Mozilla's roots and the CA in `ca.crt`, if there is one.
///
/// # Errors
/// A sentence: `ca.crt` holds no certificate.
pub(crate) fn connector(secrets: &Secrets) -> Result<Connector, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(bundle) = secrets.get("ca.crt") {
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok).collect();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err("ca.crt holds no certificate: put the server's CA there in PEM".to_owned());
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("failed to configure TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(IDLE));
    let connector = hyper_rustls::HttpsConnectorBuilder::new();
    Ok(connector.with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp))
}

/// A client over a connector.
pub(crate) fn client<B>(connector: Connector) -> Client<Connector, B>
where
    B: hyper::body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector)
}

/// The same client for the crate that speaks S3 and the like.
pub(super) struct Plug(pub(super) Connector);

struct Service(Client<Connector, HttpRequestBody>);

impl fmt::Debug for Plug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plug")
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl object_store::client::HttpConnector for Plug {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(client(self.0.clone()))))
    }
}

impl HttpService for Service {
    fn call<'s, 'f>(
        &'s self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let late = || {
                let error = std::io::Error::other(format!("no answer within {} s", ANSWER.as_secs()));
                HttpError::new(HttpErrorKind::Timeout, error)
            };
            let answer = tokio::time::timeout(ANSWER, self.0.request(request)).await.map_err(|_| late())?;
            let (head, body) = answer.map_err(failed)?.into_parts();
            let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
            Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
        })
    }
}

fn failed(error: hyper_util::client::legacy::Error) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
    HttpError::new(kind, error)
}

/// An error with its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
