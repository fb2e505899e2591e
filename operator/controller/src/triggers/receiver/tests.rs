//! Which callers does the receiver accept, and what does it answer?

use axum::http::Request;
use fleetprof_core::trigger::reach::Reach;
use futures::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;

struct Fine(Rechecked);

impl Recheck for Fine {
    fn recheck(&self, _: Arrival) -> futures::future::BoxFuture<'_, Rechecked> {
        Box::pin(std::future::ready(self.0.clone()))
    }
}

fn receiver(fine: bool) -> Receiver {
    rechecked(Rechecked { again: !fine, ..Rechecked::default() })
}

fn rechecked(answer: Rechecked) -> Receiver {
    let metrics = Metrics::default();
    let (namespace, deployment) = ("fleetprof".into(), "fleetprof-operator".into());
    let nowhere = Nowhere { events: None, namespace, deployment, metrics: metrics.clone() };
    Receiver {
        credentials: Credentials::fixed("secret"),
        memory: Memory::default(),
        recheck: Arc::new(Fine(answer)),
        nowhere,
        metrics,
    }
}

fn payload() -> Value {
    let since = (Timestamp::now() - jiff::SignedDuration::from_hours(1)).to_string();
    let alert = |status: &str, print: &str| json!({"status": status, "labels": {"alertname": "Slow", "namespace": "shop"}, "annotations": {}, "startsAt": since, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": print});
    json!({"version": "4", "status": "firing", "receiver": "fleetprof", "alerts": [alert("firing", "00ff"), alert("resolved", "00fe")]})
}

async fn send(receiver: &Receiver, token: Option<&str>, body: impl Into<Body>) -> (u16, usize) {
    let mut request = Request::post("/v1/alerts");
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let answer = router(receiver.clone()).oneshot(request.body(body.into()).unwrap()).await.unwrap();
    (answer.status().as_u16(), receiver.memory.alerts(Timestamp::now()).len())
}

#[tokio::test]
async fn what_is_forged_oversized_malformed_or_of_another_version_changes_nothing() {
    let good = payload().to_string();
    let large = format!("{}{}", " ".repeat(alert::MAX_BYTES), good);
    let many = json!({"version": "4", "alerts": vec![payload()["alerts"][0].clone(); alert::MAX_ALERTS + 1]})
        .to_string();
    let mut wrong = payload();
    wrong["version"] = json!("5");
    let cases = [
        (None, good.clone(), 401),
        (Some("guess"), good.clone(), 401),
        (Some(""), good.clone(), 401),
        (Some("secret"), large, 413),
        (Some("secret"), "[1, 2".into(), 400),
        (Some("secret"), "{}".into(), 400),
        (Some("secret"), String::new(), 400),
        (Some("secret"), wrong.to_string(), 400),
        (Some("secret"), many, 400),
        (Some("secret"), good.replace("\"alerts\":[", "\"alerts\":[7,"), 400),
    ];
    for (token, body, code) in cases {
        let what = body.chars().take(60).collect::<String>();
        assert_eq!(send(&receiver(true), token, body).await, (code, 0), "{token:?} {what}");
    }
}

fn never() -> Body {
    Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>())
}

fn post_of(token: &str, body: Body) -> Request<Body> {
    Request::post("/v1/alerts").header("Authorization", format!("Bearer {token}")).body(body).unwrap()
}

#[tokio::test]
async fn unauthenticated_requests_keep_nobody_waiting() {
    let router = router(receiver(true));
    let ask = async |token: &str, body: Body| {
        let begun = std::time::Instant::now();
        let answer = router.clone().oneshot(post_of(token, body)).await.unwrap();
        (answer.status().as_u16(), begun.elapsed() < UNAUTHENTICATED_TIMEOUT / 2)
    };
    let unauthenticated =
        futures::future::join_all((0..UNAUTHENTICATED_AT_ONCE + 5).map(|_| ask("guess", never())));
    let known = async {
        tokio::task::yield_now().await;
        ask("secret", payload().to_string().into()).await
    };
    let (unauthenticated, known) = tokio::join!(unauthenticated, known);
    assert_eq!(known, (200, true));
    assert_eq!(
        unauthenticated.iter().filter(|answer| **answer == (401, false)).count(),
        UNAUTHENTICATED_AT_ONCE,
        "read to be told"
    );
    assert_eq!(unauthenticated.iter().filter(|answer| **answer == (401, true)).count(), 5, "told at once");
}

#[tokio::test]
async fn those_who_may_tell_take_turns() {
    let router = router(receiver(true));
    let slow =
        futures::future::join_all((0..AT_ONCE).map(|_| router.clone().oneshot(post_of("secret", never()))));
    let next = async {
        tokio::task::yield_now().await;
        let next = router.clone().oneshot(post_of("secret", payload().to_string().into()));
        assert!(tokio::time::timeout(Duration::from_millis(50), next).await.is_err(), "it waits");
    };
    tokio::select! {
        _ = slow => unreachable!("they never end"),
        () = next => {}
    }
    let next = router.oneshot(post_of("secret", payload().to_string().into())).await.unwrap();
    assert_eq!(next.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_read_to_its_end_within_reason() {
    for (chunks, wanted) in [(3, 3), (64, 19)] {
        let chunk = Bytes::from(vec![b' '; 1 << 20]);
        let stream = futures::stream::iter((0..chunks).map(move |_| chunk.clone()));
        let (sender, receiver) = std::sync::mpsc::channel();
        let stream = stream.map(move |chunk| {
            let _ = sender.send(());
            Ok::<_, std::io::Error>(chunk)
        });
        assert!(matches!(collect(Body::from_stream(stream)).await, Err(Refusal::TooLarge)));
        assert_eq!(receiver.try_iter().count(), wanted);
    }
}

#[tokio::test]
async fn an_alert_is_kept_once_and_gone_when_it_is_resolved() {
    let receiver = receiver(true);
    let mut body = payload();
    assert_eq!(send(&receiver, Some("secret"), body.to_string()).await, (200, 1));
    assert_eq!(send(&receiver, Some("secret"), body.to_string()).await, (200, 1), "repeated");
    body["alerts"][0]["status"] = json!("resolved");
    assert_eq!(send(&receiver, Some("secret"), body.to_string()).await, (200, 0));
}

#[tokio::test]
async fn alertmanager_is_asked_to_try_again_when_a_session_could_not_be_created() {
    assert_eq!(send(&receiver(false), Some("secret"), payload().to_string()).await, (503, 1));
}

#[tokio::test]
async fn the_answer_tells_of_alerts_that_lead_nowhere_and_asks_for_no_try_that_cannot_help() {
    let reached = vec![Reach::Matched, Reach::NoNamespace];
    let router = router(rechecked(Rechecked { again: false, refused: 1, reached }));
    let answer = router.oneshot(post_of("secret", payload().to_string().into())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        String::from_utf8_lossy(&body),
        "1 alert matched; 1 alert has no label for a namespace; the API server refused 1 session, see the \
         events of the policies\n"
    );
}

#[tokio::test]
async fn a_client_certificate_that_was_verified_needs_no_token() {
    let receiver = Receiver { credentials: Credentials::none(), ..receiver(true) };
    let send = async |certificates: Vec<rustls_pki_types::CertificateDer<'static>>| {
        let peer = PeerInfo::new(([127, 0, 0, 1], 1).into(), certificates);
        let request =
            Request::post("/v1/alerts").extension(peer).body(Body::from(payload().to_string())).unwrap();
        router(receiver.clone()).oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!((send(vec![]).await, send(vec![vec![1].into()]).await), (401, 200));
}

#[tokio::test]
async fn nobody_may_tell_while_there_is_no_token() {
    let receiver = Receiver { credentials: Credentials::none(), ..receiver(true) };
    assert_eq!(send(&receiver, Some(""), payload().to_string()).await, (401, 0));
}

proptest::proptest! {
    #[test]
    fn no_body_breaks_it(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300), cut in 0usize..400) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let good = payload().to_string().into_bytes();
        let mut mixed = good[..cut.min(good.len())].to_vec();
        mixed.extend(&body);
        for body in [body, mixed] {
            let (code, _) = runtime.block_on(send(&receiver(true), Some("secret"), body));
            proptest::prop_assert!([200, 400].contains(&code), "{}", code);
        }
    }
}
