//! What does an attached agent speak for? The container that it was attached to, whatever it says.

use axum::body::Body;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::Reason;
use fleetprof_crds::wire::{
    AgentMode, CaptureState, ContainerReport, DIGEST_HEADER, Heartbeat, HeartbeatReply, Order, OrderList,
    SliceReply,
};
use http::{Request, header};

use super::rig::{Answer, Rig, beat, from, get, hex, order, pod, post, report, scope};

/// A capture of a container of pod `a`: `app` has the id `c0ffee`, and `proxy` has `id-proxy`.
fn open(rig: &Rig, capture: &str, container: &str) {
    let container_id = if container == "app" { "c0ffee" } else { "id-proxy" };
    let (container, container_id) = (container.to_owned(), container_id.to_owned());
    let order = Order { container_id: container_id.clone(), ..order(capture) };
    rig.fleet.open(CaptureScope { container, container_id, ..scope(capture, "a") }, order);
}

/// What an agent says that claims to see these containers.
fn says(instance: &str, mode: AgentMode, ids: &[&str]) -> Heartbeat {
    let base = beat(vec![]);
    let row = |id: &&str| ContainerReport { id: (*id).to_owned(), ..base.containers[0].clone() };
    Heartbeat { instance: instance.into(), mode, containers: ids.iter().map(row).collect(), ..base }
}

async fn tell(rig: &Rig, credential: &str, beat: &Heartbeat) -> HeartbeatReply {
    let body = serde_json::to_vec(beat).unwrap();
    rig.send(post("/v1/heartbeat", Some(credential), body)).await.accepted()
}

async fn told(rig: &Rig, credential: &str, query: &str) -> Vec<String> {
    let list: OrderList = rig.send(get(&format!("/v1/orders{query}"), credential)).await.accepted();
    list.orders.into_iter().map(|order| order.capture).collect()
}

async fn upload(rig: &Rig, credential: &str, capture: &str) -> Answer {
    let request = Request::builder()
        .method("PUT")
        .uri(format!("/v1/captures/{capture}/cpu/slices/0"))
        .extension(from("10.1.2.3:40000"))
        .header(header::AUTHORIZATION, format!("Bearer {credential}"))
        .header(DIGEST_HEADER, hex(b"profile"));
    rig.send(request.body(Body::from("profile")).unwrap()).await
}

#[tokio::test]
async fn each_of_two_attached_agents_gets_the_orders_of_its_container_and_a_sidecar_all() {
    let rig = Rig::new();
    let (app, proxy) = (rig.credential("a", "app"), rig.credential("a", "proxy"));
    open(&rig, "of-app", "app");
    open(&rig, "of-proxy", "proxy");
    let both = &["c0ffee", "id-proxy"];
    tell(&rig, &app, &says("one", AgentMode::Ephemeral, both)).await;
    tell(&rig, &proxy, &says("two", AgentMode::Ephemeral, both)).await;
    for (credential, instance, own) in [(&app, "one", "of-app"), (&proxy, "two", "of-proxy")] {
        assert_eq!(told(&rig, credential, &format!("?agent={instance}")).await, [own]);
        assert_eq!(told(&rig, credential, "").await, [own], "an agent that does not say who it is");
    }
    assert_eq!(told(&rig, "token-a", "").await, ["of-app", "of-proxy"]);
}

#[tokio::test]
async fn what_it_reports_and_uploads_counts_for_its_container_alone() {
    let rig = Rig::new();
    let (app, proxy) = (rig.credential("a", "app"), rig.credential("a", "proxy"));
    open(&rig, "of-app", "app");
    let failed = Heartbeat {
        captures: vec![report("of-app", CaptureState::Failed)],
        ..says("two", AgentMode::Ephemeral, &["c0ffee"])
    };
    tell(&rig, &proxy, &failed).await;
    assert_eq!(rig.fleet.report("of-app"), None);
    assert!(rig.metrics().contains("gateway_ignored_reports_total 1"), "{}", rig.metrics());
    upload(&rig, &proxy, "of-app").await.refused(404, Reason::CaptureUnknown);
    assert!(!upload(&rig, &app, "of-app").await.accepted::<SliceReply>().duplicate);
    assert!(upload(&rig, "token-a", "of-app").await.accepted::<SliceReply>().duplicate, "a sidecar");
    let running = Heartbeat {
        captures: vec![report("of-app", CaptureState::Running)],
        ..says("one", AgentMode::Ephemeral, &["c0ffee"])
    };
    tell(&rig, &app, &running).await;
    assert_eq!(rig.fleet.report("of-app").unwrap().state, CaptureState::Running);
}

#[tokio::test]
async fn a_report_of_a_capture_of_another_container_is_not_taken_over_when_that_is_opened() {
    let rig = Rig::unsynced();
    let (app, proxy) = (rig.credential("a", "app"), rig.credential("a", "proxy"));
    let with = |instance: &str, state| Heartbeat {
        captures: vec![report("of-app", state)],
        ..says(instance, AgentMode::Ephemeral, &["c0ffee"])
    };
    tell(&rig, &proxy, &with("two", CaptureState::Failed)).await;
    tell(&rig, &app, &with("one", CaptureState::Running)).await;
    open(&rig, "of-app", "app");
    assert_eq!(rig.fleet.report("of-app").unwrap().state, CaptureState::Running);
}

#[tokio::test]
async fn it_sees_its_container_alone_and_is_no_sidecar() {
    let rig = Rig::new();
    let (app, proxy) = (rig.credential("a", "app"), rig.credential("a", "proxy"));
    tell(&rig, &app, &says("one", AgentMode::Ephemeral, &["c0ffee"])).await;
    tell(&rig, &proxy, &says("two", AgentMode::Sidecar, &["c0ffee", "id-proxy"])).await;
    let views = rig.fleet.agents_of("uid-a");
    let seen = |at: usize| -> Vec<&str> {
        views[at].heartbeat.containers.iter().map(|row| row.id.as_str()).collect()
    };
    assert_eq!((seen(0), seen(1)), (vec!["c0ffee"], vec!["id-proxy"]));
    assert!(views.iter().all(|view| view.heartbeat.mode == AgentMode::Ephemeral));
    open(&rig, "of-app", "app");
    assert_eq!(told(&rig, &app, "?agent=one").await, ["of-app"]);
    assert!(told(&rig, &proxy, "?agent=two").await.is_empty());
}

#[tokio::test]
async fn an_agent_that_takes_the_name_of_another_containers_agent_takes_nothing_else() {
    let rig = Rig::new();
    let (app, proxy) = (rig.credential("a", "app"), rig.credential("a", "proxy"));
    open(&rig, "of-app", "app");
    tell(&rig, &app, &says("one", AgentMode::Ephemeral, &["c0ffee"])).await;
    for n in 0..50 {
        rig.pass(1);
        tell(&rig, &proxy, &says(&format!("two-{n}"), AgentMode::Ephemeral, &["id-proxy"])).await;
    }
    let leaving = Heartbeat { leaving: true, ..says("one", AgentMode::Ephemeral, &["c0ffee"]) };
    tell(&rig, &proxy, &leaving).await;
    assert_eq!(told(&rig, &app, "?agent=one").await, ["of-app"]);
    assert_eq!(rig.fleet.held().agents, 3, "what the pod has, and one that it had");
    rig.send(get("/v1/orders?agent=one", &proxy)).await.refused(503, Reason::GatewayStarting);
}

#[tokio::test]
async fn a_credential_of_an_earlier_version_serves_the_whole_pod() {
    let rig = Rig::new();
    let home = "10.1.2.3".parse().unwrap();
    let ticket = rig.tickets.mint(&pod("a").into(), &[home], rig.now()).unwrap();
    let credential = rig.tickets.redeem(&ticket, home, rig.now()).unwrap().credential;
    open(&rig, "of-app", "app");
    open(&rig, "of-proxy", "proxy");
    tell(&rig, &credential, &says("old", AgentMode::Ephemeral, &["c0ffee", "id-proxy"])).await;
    assert_eq!(told(&rig, &credential, "?agent=old").await, ["of-app", "of-proxy"]);
    assert_eq!(upload(&rig, &credential, "of-proxy").await.status, 200);
}

#[tokio::test]
async fn one_containers_agent_uses_up_the_requests_of_no_other() {
    let rig = Rig::new();
    let (app, proxy) = (rig.credential("a", "app"), rig.credential("a", "proxy"));
    for _ in 0..60 {
        told(&rig, &proxy, "").await;
    }
    rig.send(get("/v1/orders", &proxy)).await.refused(429, Reason::TooManyRequests);
    told(&rig, &app, "").await;
    told(&rig, "token-a", "").await;
}
