//! How does an attached agent get in?

use axum::body::Body;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::{EnrollReply, OrderList};
use http::Request;
use serde_json::json;

use super::rig::{Answer, HOME, Rig, from, get, post};

fn ticket(rig: &Rig) -> String {
    rig.ticket("e", "app")
}

fn enrolment(ticket: &str) -> Request<Body> {
    post("/v1/enroll", None, json!({"ticket": ticket, "fieldOfTomorrow": 1}).to_string())
}

async fn enroll_from(rig: &Rig, peer: &str, ticket: &str) -> Answer {
    let mut request = enrolment(ticket);
    request.extensions_mut().insert(from(peer));
    rig.send(request).await
}

#[tokio::test]
async fn a_ticket_gives_a_credential_that_lets_the_agent_in() {
    let rig = Rig::new();
    let reply: EnrollReply = enroll_from(&rig, HOME, &ticket(&rig)).await.accepted();
    assert_eq!(reply.expires_at, rig.now().as_second() + 24 * 3600);
    assert_eq!(reply.renew_after_ms, Some(12 * 3_600_000));
    rig.send(get("/v1/orders", &reply.credential)).await.accepted::<OrderList>();
}

#[tokio::test]
async fn the_second_use_of_a_ticket_is_a_conflict() {
    let rig = Rig::new();
    let ticket = ticket(&rig);
    enroll_from(&rig, HOME, &ticket).await.accepted::<EnrollReply>();
    enroll_from(&rig, HOME, &ticket).await.refused(409, Reason::TicketUsed);
}

#[tokio::test]
async fn a_ticket_from_another_address_is_forbidden() {
    let rig = Rig::new();
    enroll_from(&rig, "10.1.2.4:40000", &ticket(&rig)).await.refused(403, Reason::Unauthenticated);
}

#[tokio::test]
async fn an_expired_ticket_is_refused() {
    let rig = Rig::new();
    let ticket = ticket(&rig);
    rig.pass(300);
    enroll_from(&rig, HOME, &ticket).await.refused(401, Reason::Unauthenticated);
}

#[tokio::test]
async fn an_invented_ticket_is_refused_and_not_quoted() {
    let rig = Rig::new();
    let message = enroll_from(&rig, HOME, "fpt1.secret.secret").await.refused(401, Reason::Unauthenticated);
    assert!(!message.contains("secret"));
}

#[tokio::test]
async fn a_body_that_is_no_enrolment_is_refused() {
    let rig = Rig::new();
    for body in ["", "[]", "{}", "{\"ticket\": 5}", "\u{0}"] {
        rig.send(post("/v1/enroll", None, body)).await.refused(400, Reason::MalformedRequest);
    }
    rig.send(post("/v1/enroll", None, vec![b' '; 9000])).await.refused(413, Reason::MalformedRequest);
}

#[tokio::test]
async fn guessing_tickets_is_slowed_down() {
    let rig = Rig::new();
    for n in 0..50 {
        enroll_from(&rig, HOME, &format!("fpt1.{n}.x")).await.refused(401, Reason::Unauthenticated);
    }
    enroll_from(&rig, HOME, "fpt1.again.x").await.refused(429, Reason::TooManyRequests);
    enroll_from(&rig, "10.9.9.9:1", "fpt1.again.x").await.refused(401, Reason::Unauthenticated);
}

#[tokio::test]
async fn a_caller_without_an_address_is_not_enrolled() {
    let rig = Rig::new();
    let mut request = enrolment(&ticket(&rig));
    request.extensions_mut().clear();
    rig.send(request).await.refused(500, Reason::Internal);
}

/// A credential of pod `e`, which is there and has this address.
async fn enrolled(rig: &Rig) -> String {
    rig.homes.addresses.lock().unwrap().insert("uid-e".into(), "10.1.2.3".parse().unwrap());
    enroll_from(rig, HOME, &ticket(rig)).await.accepted::<EnrollReply>().credential
}

#[tokio::test]
async fn a_credential_is_renewed_for_as_long_as_the_pod_is_there() {
    let rig = Rig::new();
    let mut credential = enrolled(&rig).await;
    for _ in 0..30 {
        rig.pass(23 * 3600);
        rig.send(get("/v1/orders", &credential)).await.accepted::<OrderList>();
        let reply: EnrollReply = enroll_from(&rig, HOME, &credential).await.accepted();
        assert_eq!(reply.expires_at, rig.now().as_second() + 24 * 3600);
        credential = reply.credential;
    }
    rig.homes.addresses.lock().unwrap().clear();
    enroll_from(&rig, HOME, &credential).await.refused(403, Reason::Unauthenticated);
    rig.pass(24 * 3600);
    rig.send(get("/v1/orders", &credential)).await.refused(401, Reason::Unauthenticated);
}

#[tokio::test]
async fn a_credential_that_ended_while_there_was_no_leader_is_renewed_for_a_week() {
    let rig = Rig::new();
    let credential = enrolled(&rig).await;
    rig.pass(24 * 3600 + 7 * 24 * 3600 - 1);
    rig.send(get("/v1/orders", &credential)).await.refused(401, Reason::Unauthenticated);
    let reply: EnrollReply = enroll_from(&rig, HOME, &credential).await.accepted();
    rig.send(get("/v1/orders", &reply.credential)).await.accepted::<OrderList>();
    rig.pass(1);
    enroll_from(&rig, HOME, &credential).await.refused(401, Reason::Unauthenticated);
}

#[tokio::test]
async fn a_stolen_credential_is_renewed_from_nowhere_else_nor_after_its_pod() {
    let rig = Rig::new();
    let credential = enrolled(&rig).await;
    enroll_from(&rig, "10.1.2.4:40000", &credential).await.refused(403, Reason::Unauthenticated);
    // Another pod has the address now.
    let other = [("uid-f".to_owned(), "10.1.2.3".parse().unwrap())];
    *rig.homes.addresses.lock().unwrap() = other.into();
    let message = enroll_from(&rig, HOME, &credential).await.refused(403, Reason::Unauthenticated);
    assert!(!message.contains(&credential));
}

#[tokio::test]
async fn guessing_credentials_is_slowed_down() {
    let rig = Rig::new();
    for n in 0..50 {
        enroll_from(&rig, HOME, &format!("fpc1.{n}.x")).await.refused(401, Reason::Unauthenticated);
    }
    enroll_from(&rig, HOME, "fpc1.again.x").await.refused(429, Reason::TooManyRequests);
}
