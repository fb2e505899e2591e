//! What does a client send? HTTP/1.1 by hand, from any address of this machine.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::victims::{Victim, Welcome};

/// TLS from any address.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

pub(super) type Stream = TlsStream<TcpStream>;

impl Tls {
    /// Trusts the first certificate of `pem`.
    pub(super) fn trusting(pem: &str) -> Self {
        Self::new(pem, None)
    }

    fn new(pem: &str, own: Option<&(String, String)>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        };
        Self(TlsConnector::from(Arc::new(config)))
    }

    pub(super) async fn connect(&self, from: [u8; 4], port: u16) -> Result<Stream> {
        let stream = dial(from, port).await?;
        self.0.connect(ServerName::try_from("localhost").unwrap(), stream).await
    }
}

pub(super) async fn dial(from: [u8; 4], port: u16) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A client that belongs there.
pub(super) struct Caller {
    tls: Tls,
    port: u16,
    request: String,
    asked: AtomicUsize,
}

impl Caller {
    pub(super) fn new(victim: Victim, welcome: &Welcome) -> Self {
        let request = request(victim);
        let own = (victim == Victim::ReadApi).then_some(&welcome.client);
        Self { tls: Tls::new(&welcome.ca, own), port: welcome.port, request, asked: AtomicUsize::new(0) }
    }

    pub(super) async fn connect(&self, from: [u8; 4]) -> Result<Stream> {
        self.tls.connect(from, self.port).await
    }

    /// Asks over a connection of its own.
    pub(super) async fn ask_on_a_new_connection(&self) -> Result<()> {
        let mut stream = self.connect([127, 0, 0, 1]).await?;
        self.ask(&mut stream).await
    }

    pub(super) async fn ask(&self, stream: &mut Stream) -> Result<()> {
        // Each time another pod: one alone may not ask so often.
        let pod = self.asked.fetch_add(1, Ordering::Relaxed) % 100;
        stream.write_all(self.request.replace("POD", &pod.to_string()).as_bytes()).await?;
        let answer = read_answer(stream).await?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(Error::other(answer)) }
    }
}

/// What a client that belongs there asks.
fn request(victim: Victim) -> String {
    match victim {
        Victim::Gateway => get("/v1/orders?wait=0&have=9", "authorization: Bearer goodPOD\r\n"),
        Victim::ReadApi => get("/apis/data.fleetprof.dev/v1alpha1", "x-remote-user: ann\r\n"),
        Victim::Webhook => post("/mutate/pods", "", &review()),
        Victim::Alerts => {
            let body = json!({"version": "4", "alerts": []}).to_string();
            post("/v1/alerts", "authorization: Bearer secret\r\n", &body)
        }
    }
}

/// What an API server asks about a new pod.
pub(super) fn review() -> String {
    let pod = json!({"metadata": {"generateName": "orders-"}, "spec": {"containers": [{"name": "orders"}]}});
    json!({"request": {"uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": pod}}).to_string()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")
}

pub(super) fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// The head of the answer and what came with it; its body is read to the end.
pub(super) async fn read_answer(stream: &mut Stream) -> Result<String> {
    let mut read = Vec::new();
    loop {
        let mut part = vec![0; 16 << 10];
        let n = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut part))
            .await
            .map_err(|_| Error::from(ErrorKind::TimedOut))??;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.and_then(|length| length.parse().ok()).is_none_or(|length: usize| body.len() >= length)
            {
                return Ok(text);
            }
        }
    }
}
