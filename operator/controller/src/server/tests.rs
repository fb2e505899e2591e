//! Connections without TLS, over real sockets. Addresses of 127.0.0.0/8 stand for other machines.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::extract::Extension;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::metrics::Limit;
use super::*;

const SERVER: &str = "test";
const SOON: Duration = Duration::from_millis(300);
const TIMEOUTS: Timeouts = Timeouts {
    first_request: Duration::from_millis(900),
    idle: Duration::from_millis(1800),
    stuck: Duration::from_millis(4000),
};

/// The port of a server whose `/poll` hangs for 2.5 s and whose `/stuck` never answers.
async fn start(connections: u32, per_peer: u32) -> (u16, ConnectionMetrics) {
    let metrics = ConnectionMetrics::default();
    let limits =
        Limits { timeouts: TIMEOUTS, ..Limits::new(SERVER, (connections, per_peer), metrics.clone()) };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let poll = || async {
        sleep(Duration::from_millis(2500)).await;
        "orders"
    };
    let known = |Extension(peer): Extension<PeerInfo>| async move {
        peer.proof.is_expected();
        "welcome"
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/poll", get(poll))
        .route("/known", get(known))
        .route("/stuck", get(std::future::pending::<&str>));
    tokio::spawn(serve_plain(listener, router, limits));
    (port, metrics)
}

async fn dial(from: [u8; 4], port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap()
}

async fn ask(stream: &mut TcpStream, path: &str) -> std::io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
    let mut part = [0; 4096];
    match stream.read(&mut part).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        n => Ok(String::from_utf8_lossy(&part[..n]).into_owned()),
    }
}

/// After how long the server hangs up.
async fn hung_up(stream: &mut TcpStream) -> Duration {
    let (since, mut rest) = (Instant::now(), Vec::new());
    let _ =
        timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await.expect("it stays connected");
    since.elapsed()
}

#[tokio::test]
async fn who_asks_nothing_or_not_to_the_end_is_hung_up_on() {
    let (port, metrics) = start(10, 10).await;
    for said in ["", "GET / HTTP/1.1\r\nhost:", "GET / HTTP/1.1\r\nhost: x\r\nx: y"] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        let after = hung_up(&mut stream).await;
        assert!(
            after >= TIMEOUTS.first_request - SOON && after < 3 * TIMEOUTS.first_request,
            "{said} {after:?}"
        );
    }
    assert_eq!(metrics.count(SERVER, Limit::first_request), 3);
}

#[tokio::test]
async fn an_idle_connection_can_be_used_again_for_a_while_and_is_then_ended() {
    let (port, _) = start(10, 10).await;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    for _ in 0..3 {
        assert!(ask(&mut stream, "/").await.unwrap().ends_with("hello"));
        sleep(TIMEOUTS.idle / 2).await;
    }
    let after = hung_up(&mut stream).await;
    assert!(after < 2 * TIMEOUTS.idle, "{after:?}");
}

#[tokio::test]
async fn a_poll_that_hangs_longer_than_idleness_is_answered() {
    let (port, _) = start(10, 10).await;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    for _ in 0..2 {
        assert!(ask(&mut stream, "/poll").await.unwrap().ends_with("orders"));
    }
}

#[tokio::test]
async fn a_request_that_never_ends_ends() {
    let (port, metrics) = start(10, 10).await;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let after = hung_up(&mut stream).await;
    assert!(after >= TIMEOUTS.stuck - SOON, "{after:?}");
    assert_eq!(metrics.count(SERVER, Limit::stuck), 1);
}

#[tokio::test]
async fn http2_is_refused_before_it_multiplies_anything() {
    let (port, _) = start(10, 10).await;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    assert!(hung_up(&mut stream).await < TIMEOUTS.first_request - SOON);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off_when_it_is_too_long() {
    let (port, _) = start(10, 10).await;
    for (line, refused) in [("x".repeat(9 << 10), false), ("x".repeat(33 << 10), true)] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        stream.write_all(format!("GET / HTTP/1.1\r\nhost: x\r\nx: {line}").as_bytes()).await.unwrap();
        let after = hung_up(&mut stream).await;
        assert_eq!(after < TIMEOUTS.first_request - SOON, refused, "{after:?}");
    }
    let many = "a: b\r\n".repeat(65);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = timeout(Duration::from_secs(15), stream.read_to_string(&mut answer)).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn who_is_refused_is_not_kept_and_who_is_known_may_stay() {
    let (port, _) = start(10, 10).await;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let answer = ask(&mut stream, "/nowhere").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("connection: close"), "{answer}");
    assert!(hung_up(&mut stream).await < SOON);
    let mut known = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    assert!(ask(&mut known, "/known").await.unwrap().ends_with("welcome"));
    assert!(ask(&mut known, "/nowhere").await.unwrap().starts_with("HTTP/1.1 404"));
    assert!(ask(&mut known, "/").await.unwrap().ends_with("hello"));
}

#[tokio::test]
async fn who_holds_the_most_makes_room_and_the_known_keep_their_places() {
    let (port, metrics) = start(4, 4).await;
    let mut known = dial([127, 0, 0, 1], port).await;
    assert!(ask(&mut known, "/known").await.is_ok());
    let mut many = Vec::new();
    for n in 0..12 {
        many.push(dial([127, 0, 0, 2 + n % 3], port).await);
    }
    let mut newcomer = dial([127, 0, 0, 9], port).await;
    let since = Instant::now();
    assert!(ask(&mut newcomer, "/").await.unwrap().ends_with("hello"));
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert!(ask(&mut known, "/").await.unwrap().ends_with("hello"));
    sleep(SOON).await;
    assert_eq!(metrics.count(SERVER, Limit::displaced), 1);
}

#[tokio::test]
async fn one_peer_takes_its_share_and_no_more() {
    let (port, metrics) = start(10, 2).await;
    let mut mine = [dial([127, 0, 0, 1], port).await, dial([127, 0, 0, 1], port).await];
    for stream in &mut mine {
        assert!(ask(stream, "/").await.is_ok());
    }
    assert!(hung_up(&mut dial([127, 0, 0, 1], port).await).await < SOON);
    assert!(ask(&mut dial([127, 0, 0, 2], port).await, "/").await.is_ok(), "others are let in");
    assert_eq!(metrics.count(SERVER, Limit::peer), 1);
    drop(mine);
    sleep(SOON).await;
    assert!(ask(&mut dial([127, 0, 0, 1], port).await, "/").await.is_ok(), "permits come back");
}

#[tokio::test]
async fn silent_peers_give_way_to_those_who_wait() {
    let (port, metrics) = start(2, 2).await;
    let _silent = [dial([127, 0, 0, 1], port).await, dial([127, 0, 0, 1], port).await];
    let mut waiting = dial([127, 0, 0, 2], port).await;
    let since = Instant::now();
    assert!(ask(&mut waiting, "/").await.is_ok());
    assert!(since.elapsed() < 4 * TIMEOUTS.first_request, "{:?}", since.elapsed());
    assert!(metrics.count(SERVER, Limit::all) > 0);
}
