//! How is a router served over TLS? Each handshake uses the latest certificate, and all waits have timeouts.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{TlsError, TlsMaterial, TlsSource, provider};
use crate::server::{Acceptor, Connection, Limits, TLS_BUFFER};

/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests client certificates: an invalid one fails the handshake, none is accepted unless required.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    roots: watch::Receiver<Vec<CertificateDer<'static>>>,
    required: bool,
}

impl ClientAuth {
    /// Verifies against the latest `roots`; without roots, no certificate is requested.
    #[must_use]
    pub fn new(roots: watch::Receiver<Vec<CertificateDer<'static>>>) -> Self {
        Self { roots, required: false }
    }

    /// Also fails the handshake of clients without certificate.
    #[must_use]
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

/// Serves `router` on `listener` within `limits` until `shutdown` ends, then lets requests in flight finish
/// for up to 10 s. Waits for the first certificate before it accepts. HTTP/1.1;
/// [`crate::server::PeerInfo`] is an extension of every request.
///
/// # Errors
/// When `tls` cannot be configured.
pub async fn serve(
    listener: TcpListener,
    tls: TlsSource,
    router: Router,
    client_auth: Option<ClientAuth>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), TlsError> {
    let mut shutdown = std::pin::pin!(shutdown);
    tokio::select! {
        _ = tls.loaded() => {}
        () = &mut shutdown => return Ok(()),
    }
    let mut acceptor = Acceptor::new(listener, limits);
    let mut configs = Configs { tls, client_auth, current: None };
    let outcome = loop {
        let (stream, connection) = tokio::select! {
            next = acceptor.next() => next,
            () = &mut shutdown => break Ok(()),
        };
        let config = match configs.current() {
            Ok(config) => config,
            Err(error) => break Err(error),
        };
        tokio::spawn(handshake(stream, connection, config, router.clone()));
    };
    acceptor.close().await;
    outcome
}

async fn handshake(stream: TcpStream, connection: Connection, config: Arc<ServerConfig>, router: Router) {
    let accept = TlsAcceptor::from(config).accept_with(stream, |tls| tls.set_buffer_limit(Some(TLS_BUFFER)));
    let accepted = connection.until_displaced(tokio::time::timeout(HANDSHAKE_TIMEOUT, accept)).await;
    let Some(accepted) = accepted else { return };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(client.address = %connection.addr, %error, "TLS handshake failed");
        }
        Err(_) => return tracing::debug!(client.address = %connection.addr, "TLS handshake timed out"),
    };
    let client_certs = certificates(&stream);
    connection.serve(stream, client_certs, router).await;
}

fn certificates(stream: &TlsStream<TcpStream>) -> Arc<[CertificateDer<'static>]> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    certificates.iter().map(|c| c.clone().into_owned()).collect()
}

/// The latest server configuration, rebuilt only when certificate or roots changed.
struct Configs {
    tls: TlsSource,
    client_auth: Option<ClientAuth>,
    current: Option<Arc<ServerConfig>>,
}

impl Configs {
    /// An invalid change keeps the last configuration.
    fn current(&mut self) -> Result<Arc<ServerConfig>, TlsError> {
        let roots_changed = self.client_auth.as_ref().is_some_and(|c| c.roots.has_changed().unwrap_or(false));
        match &self.current {
            Some(config) if !roots_changed && !self.tls.has_changed() => return Ok(Arc::clone(config)),
            _ => {}
        }
        match (self.build(), &self.current) {
            (Ok(config), _) => Ok(Arc::clone(self.current.insert(config))),
            (Err(error), Some(last)) => {
                tracing::error!(%error, "new TLS settings are invalid; keeping the current ones");
                Ok(Arc::clone(last))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn build(&mut self) -> Result<Arc<ServerConfig>, TlsError> {
        let material = self.tls.take().ok_or_else(|| TlsError::Config("no certificate is loaded".into()))?;
        let roots =
            self.client_auth.as_mut().map(|c| c.roots.borrow_and_update().clone()).unwrap_or_default();
        let required = self.client_auth.as_ref().is_some_and(|c| c.required);
        server_config(&material, client_verifier(roots, required)?).map(Arc::new)
    }
}

fn server_config(
    material: &TlsMaterial,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, TlsError> {
    let config = |e: rustls::Error| TlsError::Config(e.to_string());
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(config)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified())));
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

fn client_verifier(
    roots: Vec<CertificateDer<'static>>,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    if roots.is_empty() {
        return Ok(Arc::new(NoClientAuth));
    }
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(roots);
    if added == 0 {
        return Err(TlsError::Config("no valid client CA certificate found".into()));
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider());
    let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
    verifier
        .build()
        .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
        .map_err(|e| TlsError::Config(e.to_string()))
}
