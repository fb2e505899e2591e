//! A gateway for tests: a real TLS server that speaks the wire protocol, keeps what it is told, and fails on
//! demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use fleetprof_crds::Reason;
use fleetprof_crds::wire::{
    CaptureReport, CaptureState, DIGEST_HEADER, Enroll, EnrollReply, ErrorReply, Heartbeat, HeartbeatChanges,
    HeartbeatReply, Order, OrderList, SliceReply, Stay,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::AlertDescription;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use super::{Authority, first_words};

/// How an upload fails.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// With a status, and perhaps a Retry-After in seconds.
    Status(u16, Option<u64>),
    /// The connection is cut before an answer.
    Cut,
    /// The slice is stored, but the connection is cut before the answer.
    CutAfterStoring,
}

/// How every credential begins.
const CREDENTIAL: &str = "credential-of-the-pod";

#[derive(Default)]
pub struct Seen {
    pub orders: Vec<Order>,
    pub version: u64,
    /// As they are whole.
    pub heartbeats: Vec<(Instant, Heartbeat)>,
    /// How many of them came as changes, and the bytes of each body as it came.
    pub changes: usize,
    pub bodies: Vec<usize>,
    /// It holds heartbeats, and takes changes; else it is of an earlier version.
    pub takes_changes: bool,
    /// It speaks protocol 1: it knows no other words, and no path for slices of a kind.
    pub is_first: bool,
    /// The last heartbeat as it came.
    pub said: serde_json::Value,
    /// It is a leader that holds nothing.
    pub is_new: bool,
    pub bearers: Vec<String>,
    pub enrolled: Vec<String>,
    pub refuse_enroll: Option<u16>,
    /// Credentials are renewed after so long; `None`: they are not.
    pub renew_after_ms: Option<u64>,
    /// Every credential is refused with 401.
    pub refuse_bearers: bool,
    /// What attached agents are told.
    pub stay: Option<Stay>,
    pub slices: BTreeMap<(String, u32), Vec<u8>>,
    pub attempts: BTreeMap<(String, u32), u32>,
    pub faults: VecDeque<Fault>,
    pub refused: BTreeMap<(String, u32), u16>,
    pub settled: Vec<String>,
    pub ca_bundle: Option<String>,
    pub next_ms: u64,
    pub polls: u32,
    /// What clients said when they refused the certificate.
    pub alerts: Vec<AlertDescription>,
}

impl Seen {
    pub fn last(&self, capture: &str) -> Option<&CaptureReport> {
        let (_, heartbeat) = self.heartbeats.last()?;
        heartbeat.captures.iter().find(|c| c.capture == capture)
    }

    pub fn state(&self, capture: &str) -> Option<CaptureState> {
        self.last(capture).map(|c| c.state)
    }

    pub fn reason(&self, capture: &str) -> Option<Reason> {
        self.last(capture)?.problem.as_ref().map(|p| p.reason)
    }
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Notify,
    tls: watch::Sender<Arc<rustls::ServerConfig>>,
    online: watch::Sender<bool>,
}

pub struct FakeGateway {
    shared: Arc<Shared>,
    port: u16,
    pub authority: Authority,
}

impl FakeGateway {
    pub fn start() -> Self {
        let authority = Authority::new();
        let shared = Arc::new(Shared {
            seen: Mutex::new(Seen { next_ms: 1000, version: 1, ..Seen::default() }),
            changed: Notify::new(),
            tls: watch::Sender::new(authority.server("localhost")),
            online: watch::Sender::new(true),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { accept(TcpListener::from_std(listener).unwrap(), serving).await });
        });
        Self { shared, port, authority }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Serves with a certificate of another authority, or for another name; cuts what is connected.
    pub fn serve_as(&self, authority: &Authority, name: &str) {
        self.shared.tls.send_replace(authority.server(name));
        self.set_online(false);
        self.set_online(true);
    }

    /// Offline, every connection is cut at once.
    pub fn set_online(&self, online: bool) {
        self.shared.online.send_replace(online);
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap()
    }

    /// Changes the orders; every change is a new version of the list.
    pub fn order(&self, change: impl FnOnce(&mut Vec<Order>)) {
        let mut seen = self.seen();
        change(&mut seen.orders);
        seen.version += 1;
        self.shared.changed.notify_waiters();
    }

    /// Waits until what was seen is so.
    pub fn wait<T>(&self, what: &str, mut test: impl FnMut(&Seen) -> Option<T>) -> T {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(40) {
            if let Some(found) = test(&self.seen()) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let seen = self.seen();
        panic!(
            "not seen within 40 s: {what}; last heartbeat {:#?}; slices {:?}",
            seen.heartbeats.last(),
            seen.slices.keys()
        );
    }

    pub fn wait_for_state(&self, capture: &str, state: CaptureState) -> CaptureReport {
        self.wait(&format!("{capture} is {state:?}"), |s| {
            s.last(capture).filter(|c| c.state == state).cloned()
        })
    }

    /// Waits for `n` more heartbeats.
    pub fn wait_for_heartbeats(&self, n: usize) {
        let wanted = self.seen().heartbeats.len() + n;
        self.wait("more heartbeats", |s| (s.heartbeats.len() >= wanted).then_some(()));
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut online = shared.online.subscribe();
            if !*online.borrow_and_update() {
                return;
            }
            let acceptor = TlsAcceptor::from(shared.tls.borrow().clone());
            let stream = match acceptor.accept(socket).await {
                Ok(stream) => stream,
                Err(error) => return shared.seen.lock().unwrap().alerts.extend(alert(&error)),
            };
            let cut = Arc::new(Notify::new());
            let service = TowerToHyperService::new(router(shared.clone(), cut.clone()));
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = cut.notified() => {}
                _ = online.changed() => {}
            }
        });
    }
}

/// What the client said before it hung up, unless it just went away.
fn alert(error: &std::io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

type Cut = Extension<Arc<Notify>>;

fn router(shared: Arc<Shared>, cut: Arc<Notify>) -> Router {
    Router::new()
        .route("/v1/enroll", post(enroll))
        .route("/v1/heartbeat", post(heartbeat))
        .route("/v1/heartbeat/changes", post(heartbeat_changes))
        .route("/v1/orders", get(orders))
        .route("/v1/captures/{capture}/slices/{seq}", put(slice))
        .route("/v1/captures/{capture}/{kind}/slices/{seq}", put(slice_of_kind))
        .layer(Extension(cut))
        .layer(axum::extract::DefaultBodyLimit::max(8 * 1024 * 1024))
        .with_state(shared)
}

fn refuse(status: u16, retry_after: Option<u64>) -> Response {
    let body =
        Json(ErrorReply { reason: Reason::UploadRejected, message: format!("the test answers {status}") });
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

fn note_bearer(seen: &mut Seen, headers: &HeaderMap) {
    let bearer = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    if seen.bearers.last() != Some(&bearer) {
        seen.bearers.push(bearer);
    }
}

async fn enroll(State(shared): State<Arc<Shared>>, Json(body): Json<Enroll>) -> Response {
    let mut seen = shared.seen.lock().unwrap();
    if let Some(status) = seen.refuse_enroll {
        return refuse(status, None);
    }
    let renews = body.ticket.starts_with(CREDENTIAL) && seen.renew_after_ms.is_some();
    if !renews && seen.enrolled.contains(&body.ticket) {
        return refuse(409, None);
    }
    let number = seen.enrolled.len();
    let credential = if number == 0 { CREDENTIAL.to_owned() } else { format!("{CREDENTIAL}-{number}") };
    seen.enrolled.push(body.ticket);
    let renew_after_ms = seen.renew_after_ms;
    Json(EnrollReply { credential, expires_at: 4_000_000_000, renew_after_ms }).into_response()
}

async fn heartbeat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let beat: Heartbeat = serde_json::from_slice(&body).unwrap();
    let mut seen = shared.seen.lock().unwrap();
    seen.is_new = false;
    seen.said = serde_json::from_slice(&body).unwrap();
    answer(&mut seen, &headers, beat, body.len())
}

async fn heartbeat_changes(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut seen = shared.seen.lock().unwrap();
    if !seen.takes_changes {
        return refuse(404, None);
    }
    let changes: HeartbeatChanges = serde_json::from_slice(&body).unwrap();
    let before = seen.heartbeats.last().map(|(_, beat)| beat.clone());
    let before = before.filter(|beat| !seen.is_new && beat.number == Some(changes.since));
    let Some(before) = before.filter(|beat| beat.instance == changes.heartbeat.instance) else {
        return refuse(409, None);
    };
    seen.changes += 1;
    let beat = changes.applied_to(before.containers);
    answer(&mut seen, &headers, beat, body.len())
}

fn answer(seen: &mut Seen, headers: &HeaderMap, beat: Heartbeat, bytes: usize) -> Response {
    if seen.refuse_bearers {
        return refuse(401, None);
    }
    note_bearer(seen, headers);
    let holds = beat.number.filter(|_| seen.takes_changes);
    seen.heartbeats.push((Instant::now(), beat));
    seen.bodies.push(bytes);
    Json(HeartbeatReply {
        holds,
        next_ms: seen.next_ms,
        settled: seen.settled.clone(),
        watch: None,
        watches: std::collections::BTreeMap::new(),
        ca_bundle: seen.ca_bundle.clone(),
        stay: seen.stay,
    })
    .into_response()
}

#[derive(serde::Deserialize)]
struct Poll {
    wait: u64,
    have: Option<u64>,
}

async fn orders(State(shared): State<Arc<Shared>>, headers: HeaderMap, Query(poll): Query<Poll>) -> Response {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(poll.wait);
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        {
            let mut seen = shared.seen.lock().unwrap();
            if seen.refuse_bearers {
                return refuse(401, None);
            }
            note_bearer(&mut seen, &headers);
            if poll.have != Some(seen.version) || tokio::time::Instant::now() >= deadline {
                seen.polls += 1;
                let list = OrderList { version: seen.version, orders: seen.orders.clone() };
                return if seen.is_first {
                    Json(first_words(&list)).into_response()
                } else {
                    Json(list).into_response()
                };
            }
        }
        let _ = tokio::time::timeout_at(deadline, changed).await;
    }
}

/// Slices of a path with a kind stand under `capture/kind`.
async fn slice_of_kind(
    shared: State<Arc<Shared>>,
    cut: Cut,
    Path((capture, kind, seq)): Path<(String, String, u32)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if shared.seen.lock().unwrap().is_first {
        return refuse(404, None);
    }
    slice(shared, cut, Path((format!("{capture}/{kind}"), seq)), headers, body).await
}

async fn slice(
    State(shared): State<Arc<Shared>>,
    Extension(cut): Cut,
    Path((capture, seq)): Path<(String, u32)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fault = {
        let mut seen = shared.seen.lock().unwrap();
        *seen.attempts.entry((capture.clone(), seq)).or_default() += 1;
        if seen.refuse_bearers {
            return refuse(401, None);
        }
        if let Some(status) = seen.refused.get(&(capture.clone(), seq)) {
            return refuse(*status, None);
        }
        let digest: String = digest(&SHA256, &body).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(headers[DIGEST_HEADER], digest.as_str());
        let fault = seen.faults.pop_front();
        match fault {
            Some(Fault::Status(status, retry_after)) => return refuse(status, retry_after),
            Some(Fault::Cut) => {}
            Some(Fault::CutAfterStoring) | None => {
                let duplicate = seen.slices.insert((capture, seq), body.to_vec()).is_some();
                if fault.is_none() {
                    return Json(SliceReply { duplicate }).into_response();
                }
            }
        }
        fault
    };
    assert!(fault.is_some());
    cut.notify_one();
    std::future::pending().await
}
