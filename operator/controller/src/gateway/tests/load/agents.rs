//! What does a fleet of agents send? The plainest client that speaks the protocol, so that many fit into one
//! process.

use std::sync::Arc;
use std::time::Duration;

use fleetprof_crds::wire::{CaptureState, HeartbeatReply, OrderList};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::rig::{beat, report, token};

/// The agents end by themselves when nobody ended them.
const LONGEST: Duration = Duration::from_secs(300);
/// The first connections are spread over this time, as those of a real fleet are by their jitter.
const RAMP: Duration = Duration::from_secs(15);

/// Agents until the process is killed.
pub(super) async fn run(port: u16, pem: &str, agents: usize) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    for n in 0..agents {
        let tls = tls.clone();
        let delay = RAMP.mul_f64(n as f64 / agents as f64);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            agent(Dial { port, tls }, n.to_string()).await
        });
    }
    tokio::time::sleep(LONGEST).await;
}

async fn agent(dial: Dial, name: String) -> std::io::Result<()> {
    let (orders, ordered) = tokio::sync::watch::channel(OrderList::default());
    tokio::try_join!(poll(dial.open(&name).await?, orders), beat_on(dial.open(&name).await?, ordered))
        .map(drop)
}

async fn beat_on(
    mut connection: Connection,
    mut ordered: tokio::sync::watch::Receiver<OrderList>,
) -> std::io::Result<()> {
    loop {
        let orders = ordered.borrow_and_update().orders.clone();
        let taken = orders.iter().map(|order| report(&order.capture, CaptureState::Accepted)).collect();
        let body = serde_json::to_string(&beat(taken)).unwrap();
        let reply: HeartbeatReply = connection.ask("POST", "/v1/heartbeat", &body).await?;
        let _ = tokio::time::timeout(Duration::from_millis(reply.next_ms), ordered.changed()).await;
    }
}

async fn poll(
    mut connection: Connection,
    orders: tokio::sync::watch::Sender<OrderList>,
) -> std::io::Result<()> {
    let mut path = "/v1/orders?wait=25".to_owned();
    loop {
        let list: OrderList = connection.ask("GET", &path, "").await?;
        path = format!("/v1/orders?wait=25&have={}", list.version);
        orders.send_if_modified(|before| std::mem::replace(before, list.clone()) != list);
    }
}

#[derive(Clone)]
struct Dial {
    port: u16,
    tls: TlsConnector,
}

impl Dial {
    async fn open(&self, name: &str) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
        Ok(Connection { stream, token: token(name) })
    }
}

struct Connection {
    stream: TlsStream<TcpStream>,
    token: String,
}

impl Connection {
    /// Sends a request and reads the JSON of the answer, which must be a success with a length.
    async fn ask<T: serde::de::DeserializeOwned + Send + 'static>(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<T> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: \
             {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            if let Some(json) = whole(&answer) {
                return serde_json::from_slice(json).map_err(std::io::Error::other);
            }
            let mut part = [0; 1024];
            match self.stream.read(&mut part).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => answer.extend_from_slice(&part[..n]),
            }
        }
    }
}

/// The body of an answer that has arrived whole.
fn whole(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let length: usize =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    answer.get(end + 4..end + 4 + length)
}
