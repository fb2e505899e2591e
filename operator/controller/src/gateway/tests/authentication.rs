//! Who is let in?

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::OrderList;
use http::header;

use super::rig::{Rig, START, beat, from, get, pod, post};

#[tokio::test]
async fn a_request_without_a_token_is_refused_everywhere() {
    let rig = Rig::new();
    let slice = "/v1/captures/c/cpu/slices/0";
    for (method, path) in [("POST", "/v1/heartbeat"), ("GET", "/v1/orders"), ("PUT", slice)] {
        for value in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz"] {
            let mut request = get(path, "x");
            *request.method_mut() = method.parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
            let answer = rig.send(request).await;
            answer.refused(401, Reason::Unauthenticated);
            assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
        }
    }
    assert_eq!(rig.identify.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_token_that_names_no_pod_is_refused_and_not_quoted() {
    let rig = Rig::new();
    let message = rig.send(get("/v1/orders", "stolen-secret")).await.refused(401, Reason::Unauthenticated);
    assert!(!message.contains("stolen"), "{message}");
    rig.send(get("/v1/orders", &"x".repeat(9000))).await.refused(401, Reason::Unauthenticated);
}

#[tokio::test]
async fn a_token_is_asked_about_once_a_minute() {
    let rig = Rig::new();
    for _ in 0..5 {
        rig.poll("a", "").await.accepted::<OrderList>();
        rig.pass(10);
    }
    assert_eq!(rig.identify.asked.load(Ordering::Relaxed), 1);
    rig.pass(10);
    rig.poll("a", "").await.accepted::<OrderList>();
    assert_eq!(rig.identify.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_token_is_believed_for_ten_minutes_at_most_while_it_lasts_and_its_pod_is_there() {
    for (seconds_left, gone_after, asked_again_after) in
        [(3600, None, 600), (330, None, 330), (3600, Some(120), 120), (3600, Some(0), 60), (30, None, 60)]
    {
        let rig = Rig::new();
        let claims = format!(r#"{{"exp":{}}}"#, START + seconds_left);
        let token = format!("token-a.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        let asked = async || {
            rig.send(get("/v1/orders", &token)).await;
            rig.identify.asked.load(Ordering::Relaxed)
        };
        let mut second = 0;
        while asked().await < 2 {
            second += 10;
            rig.pass(10);
            rig.identify.gone.store(gone_after.is_some_and(|at| second >= at), Ordering::Relaxed);
        }
        assert_eq!(second, asked_again_after, "{seconds_left} {gone_after:?}");
    }
}

#[tokio::test]
async fn a_refused_token_is_asked_about_again_after_a_while() {
    let rig = Rig::new();
    for _ in 0..3 {
        rig.send(get("/v1/orders", "bad")).await.refused(401, Reason::Unauthenticated);
    }
    assert_eq!(rig.identify.asked.load(Ordering::Relaxed), 1);
    rig.pass(10);
    rig.send(get("/v1/orders", "bad")).await.refused(401, Reason::Unauthenticated);
    assert_eq!(rig.identify.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_outage_of_the_api_server_asks_to_come_back_and_spares_known_pods() {
    let rig = Rig::new();
    rig.poll("a", "").await.accepted::<OrderList>();
    rig.identify.outage.store(true, Ordering::Relaxed);
    rig.poll("b", "").await.refused(503, Reason::TokenReviewFailed);
    rig.poll("a", "").await.accepted::<OrderList>();
    rig.identify.outage.store(false, Ordering::Relaxed);
    rig.poll("b", "").await.accepted::<OrderList>();
}

#[tokio::test]
async fn an_address_that_brings_many_bad_tokens_is_slowed_down_but_known_pods_behind_it_are_not() {
    let rig = Rig::new();
    rig.poll("a", "").await.accepted::<OrderList>();
    for n in 0..50 {
        rig.send(get("/v1/orders", &format!("bad-{n}"))).await.refused(401, Reason::Unauthenticated);
    }
    let asked = rig.identify.asked.load(Ordering::Relaxed);
    rig.send(get("/v1/orders", "bad-again")).await.refused(429, Reason::TooManyRequests);
    rig.poll("b", "").await.refused(429, Reason::TooManyRequests);
    rig.poll("a", "").await.accepted::<OrderList>();
    assert_eq!(rig.identify.asked.load(Ordering::Relaxed), asked, "the API server is spared");
    rig.pass(2);
    rig.poll("b", "").await.accepted::<OrderList>();
}

#[tokio::test]
async fn thousands_of_tokens_at_once_do_not_stand_before_those_of_other_addresses() {
    let rig = Rig::new();
    rig.identify.slow.store(true, Ordering::Relaxed);
    let flood = futures::future::join_all((0..2_000).map(|n| {
        let rig = &rig;
        async move { rig.send(get("/v1/orders", &format!("bad-{n}"))).await.status.as_u16() }
    }));
    let other = async {
        tokio::task::yield_now().await;
        let mut request = get("/v1/orders", "token-b");
        request.extensions_mut().insert(from("10.9.9.9:1"));
        rig.send(request).await.accepted::<OrderList>();
    };
    let (answers, ()) = tokio::join!(flood, other);
    let count = |code| answers.iter().filter(|answer| **answer == code).count();
    assert_eq!((count(401), count(429)), (8, 1_992));
    assert_eq!(rig.identify.asked.load(Ordering::Relaxed), 9, "the API server is spared");
}

#[tokio::test]
async fn good_tokens_and_outages_cost_an_address_nothing() {
    let rig = Rig::new();
    for n in 0..200 {
        rig.identify.outage.store(n % 2 == 1, Ordering::Relaxed);
        let answer = rig.poll(&format!("p{n}"), "").await.status.as_u16();
        assert_eq!(answer, if n % 2 == 1 { 503 } else { 200 }, "{n}");
    }
}

#[tokio::test]
async fn an_attached_agent_is_let_in_by_its_credential_without_asking_the_api_server() {
    let rig = Rig::new();
    let ticket = rig.ticket("e", "app");
    let credential = rig.credential("e", "app");
    let body = serde_json::to_vec(&beat(vec![])).unwrap();
    rig.send(post("/v1/heartbeat", Some(&credential), body)).await.accepted::<serde_json::Value>();
    assert_eq!(rig.fleet.agents_of("uid-e")[0].agent.pod, pod("e"));
    assert_eq!(rig.identify.asked.load(Ordering::Relaxed), 0);
    rig.send(get("/v1/orders", &format!("{credential}x"))).await.refused(401, Reason::Unauthenticated);
    rig.send(get("/v1/orders", &ticket)).await.refused(401, Reason::Unauthenticated);
    rig.pass(24 * 3600);
    rig.send(get("/v1/orders", &credential)).await.refused(401, Reason::Unauthenticated);
}

#[tokio::test]
async fn a_pod_that_asks_too_often_is_told_to_wait_and_others_are_not() {
    let rig = Rig::new();
    for _ in 0..60 {
        rig.poll("a", "").await.accepted::<OrderList>();
    }
    rig.poll("a", "").await.refused(429, Reason::TooManyRequests);
    rig.poll("b", "").await.accepted::<OrderList>();
    rig.pass(1);
    rig.poll("a", "").await.accepted::<OrderList>();
}

#[tokio::test]
async fn what_is_not_served_is_said_in_the_same_words() {
    let rig = Rig::new();
    rig.send(get("/v1/captures", "token-a")).await.refused(404, Reason::MalformedRequest);
    rig.send(get("/../../etc/passwd", "token-a")).await.refused(404, Reason::MalformedRequest);
    rig.send(get("/v1/heartbeat", "token-a")).await.refused(405, Reason::MalformedRequest);
}
