//! Certificates made here, presented by a real server, checked by a real client.

mod lifetime;
mod losses;
mod serving;

use std::sync::Arc;

use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::store::Store;
use super::*;

pub const NAME: &str = "fleetprof-leader.fleetprof.svc";

pub fn names() -> Vec<String> {
    CertificateNames::of("fleetprof", "fleetprof").dns_names
}

pub fn settled(mut store: Store, now: Timestamp) -> Store {
    store.settle(&names(), now).unwrap();
    store
}

pub fn material(store: &Store) -> TlsMaterial {
    TlsMaterial::from_pem(&store.tls["tls.crt"], &store.tls["tls.key"], &store.tls["ca.crt"]).unwrap()
}

pub fn leaf_of(store: &Store) -> CertificateDer<'static> {
    parse::certificates("tls.crt", &store.tls["tls.crt"]).unwrap().remove(0)
}

/// A client that trusts `bundle` and may present a certificate with its key (PEM).
pub fn client(bundle: &[u8], own: Option<(&[u8], &[u8])>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(parse::certificates("bundle", bundle).unwrap());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(
                parse::certificates("own", chain).unwrap(),
                parse::private_key("own", key).unwrap(),
            )
            .unwrap(),
    };
    Arc::new(config)
}

/// An HTTP/1.1 connection that stays open.
pub struct Connection(TlsStream<TcpStream>);

impl Connection {
    pub async fn open(port: u16, client: Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from(NAME).unwrap();
        tokio_rustls::TlsConnector::from(client).connect(name, stream).await.map(Self)
    }

    /// The leaf that the server presented.
    pub fn leaf(&self) -> CertificateDer<'static> {
        self.0.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }

    /// Asks for `path` and gives back the body of the 200 answer.
    pub async fn get(&mut self, path: &str) -> std::io::Result<String> {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                let length = head
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length: "))
                    .unwrap()
                    .parse::<usize>()
                    .unwrap();
                if body.len() == length {
                    return Ok(body.to_owned());
                }
            }
            let mut part = [0; 4096];
            match self.0.read(&mut part).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => answer.extend_from_slice(&part[..n]),
            }
        }
    }
}
