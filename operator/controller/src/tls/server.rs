//! How is a router served over TLS? Each handshake takes the newest certificate; every wait is bounded.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::{TlsError, TlsMaterial, TlsSource, provider};

/// Longest time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for the head of a request; an idle HTTP/1 connection ends after it too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often an HTTP/2 connection is asked for a sign of life, and how long that may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams of one HTTP/2 connection at a time.
const MAX_STREAMS: u32 = 256;
/// Connections at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: u32 = 8192;
/// How long requests in flight may take after the order to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Who is at the other end of the connection; an extension of every request.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Address of the peer.
    pub addr: SocketAddr,
    /// Certificates that the peer presented and that were verified, leaf first; empty without.
    pub client_certs: Arc<[CertificateDer<'static>]>,
}

/// Asks clients for a certificate: none is fine, a false one ends the handshake.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    roots: watch::Receiver<Vec<CertificateDer<'static>>>,
}

impl ClientAuth {
    /// Verifies against the newest `roots`; while there are none, no certificate is asked for.
    #[must_use]
    pub fn new(roots: watch::Receiver<Vec<CertificateDer<'static>>>) -> Self {
        Self { roots }
    }
}

/// Serves `router` on `listener` until `shutdown` ends, then lets requests in flight finish for up to 10 s.
/// Waits for the first certificate before it accepts. HTTP/1.1 and HTTP/2; [`PeerInfo`] is an extension of every request.
///
/// # Errors
/// When the listener fails for good, or `tls` cannot be configured.
pub async fn serve(
    listener: TcpListener,
    tls: TlsSource,
    router: Router,
    client_auth: Option<ClientAuth>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), TlsError> {
    let mut shutdown = std::pin::pin!(shutdown);
    tokio::select! {
        _ = tls.loaded() => {}
        () = &mut shutdown => return Ok(()),
    }
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let (stop, stopping) = watch::channel(());
    let mut configs = Configs { tls, client_auth, current: None };
    let outcome = loop {
        let (stream, addr, permit) = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = &mut shutdown => break Ok(()),
        };
        let config = match configs.current() {
            Ok(config) => config,
            Err(error) => break Err(error),
        };
        let connection = Connection { addr, router: router.clone(), stopping: stopping.clone(), _permit: permit };
        tokio::spawn(connection.run(stream, config));
    };
    drop((listener, stop));
    let _ = tokio::time::timeout(DRAIN, connections.acquire_many(MAX_CONNECTIONS)).await;
    outcome
}

/// The next connection that there is room for. Errors of accept are the peer's, or pass (too many files open).
async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = Arc::clone(connections).acquire_owned().await else { return std::future::pending().await };
        match listener.accept().await {
            Ok((stream, addr)) => return (stream, addr, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The newest server configuration, made anew only when certificate or roots changed.
struct Configs {
    tls: TlsSource,
    client_auth: Option<ClientAuth>,
    current: Option<Arc<ServerConfig>>,
}

impl Configs {
    /// A change that cannot be configured leaves the last configuration in force.
    fn current(&mut self) -> Result<Arc<ServerConfig>, TlsError> {
        let roots_changed = self.client_auth.as_ref().is_some_and(|c| c.roots.has_changed().unwrap_or(false));
        match &self.current {
            Some(config) if !roots_changed && !self.tls.has_changed() => return Ok(Arc::clone(config)),
            _ => {}
        }
        match (self.build(), &self.current) {
            (Ok(config), _) => Ok(Arc::clone(self.current.insert(config))),
            (Err(error), Some(last)) => {
                tracing::error!(%error, "new TLS settings cannot be used; the last ones stay in force");
                Ok(Arc::clone(last))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn build(&mut self) -> Result<Arc<ServerConfig>, TlsError> {
        let material = self.tls.take().ok_or_else(|| TlsError::Config("no certificate is loaded".into()))?;
        let roots = self.client_auth.as_mut().map(|c| c.roots.borrow_and_update().clone()).unwrap_or_default();
        server_config(&material, roots).map(Arc::new)
    }
}

fn server_config(material: &TlsMaterial, roots: Vec<CertificateDer<'static>>) -> Result<ServerConfig, TlsError> {
    let config = |e: rustls::Error| TlsError::Config(e.to_string());
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(config)?
        .with_client_cert_verifier(client_verifier(roots)?)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified())));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}

fn client_verifier(roots: Vec<CertificateDer<'static>>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    if roots.is_empty() {
        return Ok(Arc::new(NoClientAuth));
    }
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(roots);
    if added == 0 {
        return Err(TlsError::Config("none of the CA certificates for clients can be read".into()));
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider())
        .allow_unauthenticated()
        .build()
        .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
        .map_err(|e| TlsError::Config(e.to_string()))
}

struct Connection {
    addr: SocketAddr,
    router: Router,
    stopping: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(mut self, stream: TcpStream, config: Arc<ServerConfig>) {
        // Without it a small answer waits for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(client.address = %self.addr, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(client.address = %self.addr, "TLS handshake took too long"),
        };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let client_certs = certificates.iter().map(|c| c.clone().into_owned()).collect();
        let peer = PeerInfo { addr: self.addr, client_certs };
        let router = self.router.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            router.clone().oneshot(request.map(Body::new))
        });
        let http = http();
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ = self.stopping.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(client.address = %self.addr, %error, "connection ended early");
        }
    }
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS);
    http
}
