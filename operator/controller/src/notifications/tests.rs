//! What does a receiver get that verifies signatures, fails, hangs or redirects?

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleetprof_core::destination::Delivery;
use fleetprof_core::session::Notification;
use fleetprof_crds::{ProfileSession, Reason};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::task::JoinSet;

use super::{NotificationMetrics, Notifications, WAITING, Webhook};
use crate::destinations::Wake;

const KEY: &str = "a-key-that-both-of-them-know";

/// What a receiver has accepted, and how it answers next instead.
#[derive(Default)]
struct Receiver {
    accepted: Vec<(String, String)>,
    next: Vec<(u16, Option<String>)>,
    asked: usize,
    hangs: bool,
}

type Shared = Arc<Mutex<Receiver>>;

async fn serve() -> (SocketAddr, Shared) {
    let receiver = Shared::default();
    let router = Router::new().fallback(receive).with_state(receiver.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, receiver)
}

async fn receive(State(receiver): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let (hangs, next) = {
        let mut receiver = receiver.lock().unwrap();
        receiver.asked += 1;
        (receiver.hangs, receiver.next.pop())
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    if let Some((status, location)) = next {
        let mut response = StatusCode::from_u16(status).unwrap().into_response();
        if let Some(location) = location {
            response.headers_mut().insert("location", location.parse().unwrap());
        }
        return response;
    }
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, second) = (header("webhook-id"), header("webhook-timestamp"));
    let age = Timestamp::now().as_second() - second.parse::<i64>().unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let signature = header("webhook-signature");
    let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    let signed = format!("{id}.{second}.{body}");
    if hmac::verify(&key, signed.as_bytes(), &signature).is_err() || !(0..=5).contains(&age) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    assert_eq!(header("content-type"), "application/cloudevents+json; charset=utf-8");
    receiver.lock().unwrap().accepted.push((id, body));
    StatusCode::NO_CONTENT.into_response()
}

/// Notifications to these addresses, with that key, and what keeps them going.
struct Sender {
    notifications: Notifications,
    woken: Arc<Mutex<Vec<String>>>,
    registry: Registry,
    folder: tempfile::TempDir,
    _tasks: JoinSet<anyhow::Result<()>>,
}

fn sender(receivers: &[(&str, String)]) -> Sender {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("signing-key"), format!("{KEY}\n")).unwrap();
    let webhook = |(name, url): &(&str, String)| ((*name).to_owned(), webhook(url, folder.path()));
    let mut registry = Registry::default();
    let metrics = NotificationMetrics::register(&mut registry);
    let notifications = Notifications::new(receivers.iter().map(webhook).collect(), metrics);
    let woken: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = woken.clone();
    let wake: Wake = Arc::new(move |namespace: &str, name: &str| {
        told.lock().unwrap().push(format!("{namespace}/{name}"));
    });
    let mut tasks = JoinSet::new();
    notifications.start(&wake, &mut tasks);
    Sender { notifications, woken, registry, folder, _tasks: tasks }
}

fn webhook(url: &str, folder: &Path) -> Webhook {
    Webhook::new(url, folder.to_owned())
}

fn session(n: usize) -> (ProfileSession, Notification) {
    let uid = format!("u-{n}");
    let object = json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
        "metadata": {"name": format!("s-{n}"), "namespace": "shop", "uid": uid}, "spec": {}});
    let notification =
        Notification { id: format!("{uid}-ended"), body: format!(r#"{{"id":"{uid}-ended"}}"#) };
    (serde_json::from_value(object).unwrap(), notification)
}

impl Sender {
    fn offer(&self, receiver: &str, n: usize) -> Delivery {
        let (session, notification) = session(n);
        self.notifications.offer(receiver, &session, &notification)
    }

    /// Asks until there is an answer that is meant.
    async fn until(&self, receiver: &str, n: usize, meant: impl Fn(&Delivery) -> bool) -> Delivery {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let delivery = self.offer(receiver, n);
            if meant(&delivery) {
                return delivery;
            }
            assert!(Instant::now() < end, "{delivery:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn arrives(&self, receiver: &str, n: usize) {
        self.until(receiver, n, |delivery| *delivery == Delivery::Stored).await;
    }

    async fn problem(&self, receiver: &str, n: usize) -> String {
        let meant = |delivery: &Delivery| matches!(delivery, Delivery::Underway(Some(_)));
        let Delivery::Underway(Some(why)) = self.until(receiver, n, meant).await else { panic!() };
        why
    }

    fn shows(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|shown| shown == line)
    }
}

#[tokio::test]
async fn a_receiver_gets_a_signed_event_and_the_session_hears_of_it() {
    let (address, receiver) = serve().await;
    let sender = sender(&[("chat", format!("http://{address}/hook"))]);
    sender.arrives("chat", 1).await;
    assert_eq!(receiver.lock().unwrap().accepted, [("u-1-ended".into(), r#"{"id":"u-1-ended"}"#.into())]);
    assert_eq!(*sender.woken.lock().unwrap(), ["shop/s-1"]);
    assert!(sender.shows(r#"fleetprof_notifications_total{receiver="chat",outcome="sent"} 1"#));
}

#[tokio::test]
async fn a_failure_is_told_and_tried_again_with_the_same_id() {
    let (address, receiver) = serve().await;
    receiver.lock().unwrap().next = vec![(503, None)];
    let sender = sender(&[("chat", format!("http://{address}/"))]);
    assert_eq!(sender.problem("chat", 1).await, "it answered 503");
    sender.arrives("chat", 1).await;
    assert_eq!(receiver.lock().unwrap().accepted.len(), 1);
    assert!(sender.shows(r#"fleetprof_notifications_total{receiver="chat",outcome="failed"} 1"#));
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_up_no_other() {
    let (hanging, hangs) = serve().await;
    hangs.lock().unwrap().hangs = true;
    let (address, receiver) = serve().await;
    let sender = sender(&[("dead", format!("http://{hanging}/")), ("chat", format!("http://{address}/"))]);
    for n in 0..20 {
        let _ = sender.offer("dead", n);
    }
    let began = Instant::now();
    for n in 0..20 {
        sender.arrives("chat", n).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(receiver.lock().unwrap().accepted.len(), 20);
    assert!((1..=4).contains(&hangs.lock().unwrap().asked), "no more than a few wait for it");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (elsewhere, other) = serve().await;
    let (address, receiver) = serve().await;
    receiver.lock().unwrap().next = vec![(307, Some(format!("http://{elsewhere}/")))];
    let sender = sender(&[("chat", format!("http://{address}/"))]);
    let why = sender.problem("chat", 1).await;
    assert!(why.contains("it answered 307, and redirects are not followed"), "{why}");
    sender.arrives("chat", 1).await;
    assert_eq!(other.lock().unwrap().asked, 0);
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_sent_again() {
    let (address, receiver) = serve().await;
    receiver.lock().unwrap().next = vec![(400, None)];
    let sender = sender(&[("chat", format!("http://{address}/"))]);
    let meant = |delivery: &Delivery| matches!(delivery, Delivery::Failed(..));
    let refused = sender.until("chat", 1, meant).await;
    assert_eq!(refused, Delivery::Failed(Reason::NotificationGivenUp, "it answered 400".into()));
    assert!(receiver.lock().unwrap().accepted.is_empty());
}

#[tokio::test]
async fn nothing_is_sent_unsigned_and_no_token_without_encryption() {
    let (address, receiver) = serve().await;
    let one = sender(&[("chat", format!("http://{address}/"))]);
    std::fs::write(one.folder.path().join("token"), "secret-token").unwrap();
    let why = one.problem("chat", 1).await;
    assert!(why.contains("use an https:// URL") && !why.contains("secret-token"), "{why}");
    let other = sender(&[("chat", format!("http://{address}/"))]);
    std::fs::remove_file(other.folder.path().join("signing-key")).unwrap();
    let why = other.problem("chat", 1).await;
    assert!(why.contains("has no signing-key"), "{why}");
    assert_eq!(receiver.lock().unwrap().asked, 0);
    let wrong = sender(&[("chat", format!("http://{address}/"))]);
    std::fs::write(wrong.folder.path().join("signing-key"), "another-key-that-is-not-known").unwrap();
    assert_eq!(wrong.problem("chat", 1).await, "it answered 401", "the receiver verifies");
}

#[tokio::test]
async fn the_queue_is_bounded_and_forgets_sessions_that_are_gone() {
    let sender = sender(&[("dead", "http://127.0.0.1:1/".into())]);
    for n in 0..2 * WAITING {
        let _ = sender.offer("dead", n);
    }
    let line = sender.notifications.lines["dead"].clone();
    assert_eq!(line.outbox().backlog(), WAITING);
    assert_eq!(line.outbox().dropped(), 0, "what is not taken in waits in its session");
    let why = sender.problem("dead", 2 * WAITING).await;
    assert!(why.contains("Connect") || why.contains("connect"), "{why}");
    let live: HashSet<String> = ["u-7".to_owned()].into();
    sender.notifications.sweep(&live);
    assert!(line.outbox().backlog() <= 2, "one waits, and one may be on its way");
}
