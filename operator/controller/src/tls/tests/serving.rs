//! The server over real sockets.

use std::time::{Duration, Instant};

use axum::extract::Extension;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::*;
use crate::server::{ConnectionMetrics, Limits, PeerInfo, Timeouts};

struct Server {
    port: u16,
    feed: TlsFeed,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), TlsError>>,
}

impl Server {
    async fn start(client_auth: Option<ClientAuth>) -> Self {
        Self::start_with(client_auth, Timeouts::default()).await
    }

    async fn start_with(client_auth: Option<ClientAuth>, timeouts: Timeouts) -> Self {
        let limits = Limits { timeouts, ..Limits::new("test", (64, 64), ConnectionMetrics::default()) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (feed, source) = TlsSource::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let peer = |Extension(peer): Extension<PeerInfo>| async move {
            format!("{} {}", peer.addr.ip(), peer.client_certs.len())
        };
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "slept"
        };
        let router = axum::Router::new().route("/peer", get(peer)).route("/slow", get(slow));
        let ended =
            tokio::spawn(serve(
                listener,
                source,
                router,
                client_auth,
                limits,
                async move { drop(stopped.await) },
            ));
        Self { port, feed, stop, ended }
    }
}

fn fresh() -> Store {
    settled(Store::default(), Timestamp::now())
}

#[tokio::test]
async fn a_new_certificate_is_presented_at_once_and_open_connections_live_on() {
    let server = Server::start(None).await;
    let (old, new) = (fresh(), fresh());
    server.feed.replace(material(&old));
    let mut before = Connection::open(server.port, client(&old.tls["ca.crt"], None)).await.unwrap();
    assert_eq!(before.leaf(), leaf_of(&old));
    assert_eq!(before.get("/peer").await.unwrap(), "127.0.0.1 0");

    server.feed.replace(material(&new));
    let mut after = Connection::open(server.port, client(&new.tls["ca.crt"], None)).await.unwrap();
    assert_eq!(after.leaf(), leaf_of(&new));
    assert_eq!(after.get("/peer").await.unwrap(), "127.0.0.1 0");
    assert_eq!(before.get("/peer").await.unwrap(), "127.0.0.1 0", "the old connection lives on");
    assert!(
        Connection::open(server.port, client(&old.tls["ca.crt"], None)).await.is_err(),
        "the old leaf is gone"
    );
}

#[tokio::test]
async fn connections_wait_for_the_first_certificate() {
    let server = Server::start(None).await;
    let store = fresh();
    let waiting = tokio::spawn(Connection::open(server.port, client(&store.tls["ca.crt"], None)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    server.feed.replace(material(&store));
    assert_eq!(waiting.await.unwrap().unwrap().get("/peer").await.unwrap(), "127.0.0.1 0");
}

#[tokio::test]
async fn client_certificates_are_optional_but_never_false() {
    let (trusted, other, store) = (fresh(), fresh(), fresh());
    let (roots, receiver) = watch::channel(Vec::new());
    let server = Server::start(Some(ClientAuth::new(receiver))).await;
    server.feed.replace(material(&store));
    let ask = async |own: Option<&Store>| {
        let own = own.map(|s| (s.tls["tls.crt"].as_slice(), s.tls["tls.key"].as_slice()));
        Connection::open(server.port, client(&store.tls["ca.crt"], own)).await?.get("/peer").await
    };
    assert_eq!(ask(Some(&other)).await.unwrap(), "127.0.0.1 0", "without roots none is asked for");

    roots.send(vec![ca_for_clients(&trusted)]).unwrap();
    assert_eq!(ask(None).await.unwrap(), "127.0.0.1 0");
    let refused = ask(Some(&other)).await;
    assert!(refused.is_err(), "{refused:?}");
    roots.send(vec![CertificateDer::from(b"junk".to_vec())]).unwrap();
    assert!(ask(Some(&other)).await.is_err(), "roots that cannot be used leave the last ones in force");
}

#[tokio::test]
async fn where_a_client_certificate_is_required_nobody_connects_without_one() {
    let (front_proxy, store) = (front_proxy(), fresh());
    let (_roots, receiver) = watch::channel(parse::certificates("ca", front_proxy.0.as_bytes()).unwrap());
    let server = Server::start(Some(ClientAuth::new(receiver).required())).await;
    server.feed.replace(material(&store));
    let ask = async |own: Option<(&[u8], &[u8])>| {
        Connection::open(server.port, client(&store.tls["ca.crt"], own)).await?.get("/peer").await
    };
    assert_eq!(ask(Some((front_proxy.1.as_bytes(), front_proxy.2.as_bytes()))).await.unwrap(), "127.0.0.1 1");
    let refused = ask(None).await;
    assert!(refused.is_err(), "{refused:?}");
}

fn ca_for_clients(store: &Store) -> CertificateDer<'static> {
    parse::certificates("ca.crt", &store.ca["ca.crt"]).unwrap().remove(0)
}

#[tokio::test]
async fn a_verified_client_certificate_reaches_the_handler() {
    let (front_proxy, store) = (front_proxy(), fresh());
    let (_roots, receiver) = watch::channel(parse::certificates("ca", front_proxy.0.as_bytes()).unwrap());
    let server = Server::start(Some(ClientAuth::new(receiver))).await;
    server.feed.replace(material(&store));
    let own = Some((front_proxy.1.as_bytes(), front_proxy.2.as_bytes()));
    let mut connection = Connection::open(server.port, client(&store.tls["ca.crt"], own)).await.unwrap();
    assert_eq!(connection.get("/peer").await.unwrap(), "127.0.0.1 1");
}

/// A CA, and a certificate of it for clients with its key: what an API server has for its front proxy.
fn front_proxy() -> (String, String, String) {
    let ca = issue::ca(Timestamp::now()).unwrap();
    let issuer =
        rcgen::Issuer::from_ca_cert_pem(&ca.certificate, rcgen::KeyPair::from_pem(&ca.key).unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "front-proxy-client");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (ca.certificate, certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn the_order_to_stop_lets_requests_in_flight_finish() {
    let server = Server::start(None).await;
    let store = fresh();
    server.feed.replace(material(&store));
    let client = client(&store.tls["ca.crt"], None);
    let mut busy = Connection::open(server.port, Arc::clone(&client)).await.unwrap();
    let mut idle = Connection::open(server.port, Arc::clone(&client)).await.unwrap();
    assert_eq!(idle.get("/peer").await.unwrap(), "127.0.0.1 0");
    let answer = tokio::spawn(async move { busy.get("/slow").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.stop.send(()).unwrap();
    assert_eq!(answer.await.unwrap().unwrap(), "slept");
    server.ended.await.unwrap().unwrap();
    assert!(idle.get("/peer").await.is_err());
    assert!(Connection::open(server.port, client).await.is_err());
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_hung_up_on() {
    let server = Server::start(None).await;
    server.feed.replace(material(&fresh()));
    let (began, mut silent) = (Instant::now(), TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
    let mut byte = [0; 1];
    assert_eq!(silent.read(&mut byte).await.unwrap_or(0), 0);
    assert!((4..8).contains(&began.elapsed().as_secs()), "after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_peer_that_says_nothing_after_the_handshake_is_hung_up_on() {
    let timeouts = Timeouts { first_request: Duration::from_millis(300), ..Timeouts::default() };
    let server = Server::start_with(None, timeouts).await;
    let store = fresh();
    server.feed.replace(material(&store));
    let mut silent = Connection::open(server.port, client(&store.tls["ca.crt"], None)).await.unwrap();
    let mut asking = Connection::open(server.port, client(&store.tls["ca.crt"], None)).await.unwrap();
    assert_eq!(asking.get("/peer").await.unwrap(), "127.0.0.1 0");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(silent.get("/peer").await.is_err(), "the silent one is gone");
    assert_eq!(asking.get("/slow").await.unwrap(), "slept", "who has asked may stay");
}
