//! Does a real API server serve the read API, and can namespaces still be deleted?
//!
//! Needs a cluster with controllers, whose API server reaches this machine: `KUBECONFIG=…
//! FLEETPROF_TEST_ADDRESS=IP cargo test -p fleetprof-operator --lib data_api::tests::cluster -- --ignored
//! --nocapture`

use std::time::{Duration, Instant};

use fleetprof_crds::{ProfileKind, ProfileSession};
use http::Request;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

use super::served::{self, Certificates, NAMESPACE, apply, availability};
use crate::data_api::registration::{self, ReadService};
use crate::gateway::SliceSink;
use crate::results::tests::fixtures::{cpu, decoded, open, scope_of, slice};

const PROFILE: &str =
    "/apis/data.fleetprof.dev/v1alpha1/namespaces/fleetprof-data-api-test/profilesessions/now/profile";

/// Waits until `check` succeeds.
async fn eventually<F: Future<Output = bool>>(what: &str, seconds: u64, check: impl Fn() -> F) -> Duration {
    let begun = Instant::now();
    while !check().await {
        assert!(begun.elapsed() < Duration::from_secs(seconds), "{what}: not within {seconds} s");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    begun.elapsed()
}

async fn config() -> Config {
    Config::infer().await.expect("KUBECONFIG names a cluster")
}

async fn get(client: &Client, path: &str) -> (u16, Vec<u8>) {
    let request = Request::get(path).body(kube::client::Body::empty()).unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    (code, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

async fn namespace(client: &Client, name: &str) {
    apply(
        Api::<Namespace>::all(client.clone()),
        name,
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
    )
    .await;
}

/// Deletes a namespace and says whether it is gone within that time.
async fn goes(client: &Client, name: &str, seconds: u64) -> Option<Duration> {
    let api: Api<Namespace> = Api::all(client.clone());
    api.delete(name, &DeleteParams::default()).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        if api.get_opt(name).await.unwrap().is_none() {
            return Some(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let conditions =
        api.get(name).await.unwrap().status.and_then(|status| status.conditions).unwrap_or_default();
    let why: Vec<String> = conditions
        .iter()
        .filter(|c| c.status == "True")
        .map(|c| format!("{}: {:?}", c.type_, c.message))
        .collect();
    println!("namespace {name} stays after {seconds} s: {}", why.join("; "));
    None
}

/// Installs the kinds and an ended session; answers its uid.
async fn ended_session(client: &Client) -> String {
    for (_, crd) in fleetprof_crds::all_crds() {
        let name = crd.name_any();
        apply(
            Api::<CustomResourceDefinition>::all(client.clone()),
            &name,
            serde_json::to_value(crd).unwrap(),
        )
        .await;
    }
    let api: Api<ProfileSession> = Api::namespaced(client.clone(), NAMESPACE);
    eventually("the kinds are served", 30, || async {
        api.list(&kube::api::ListParams::default()).await.is_ok()
    })
    .await;
    let spec = json!({"target": {"pods": ["orders-1"]}});
    let object = json!({"apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession", "metadata": {"name": "now"}, "spec": spec});
    apply(api.clone(), "now", object).await;
    let uid = api.get("now").await.unwrap().uid().unwrap();
    let uri = format!("prod/shop/Deployment-orders/2023-11-14/{uid}/orders-1_app_cpu.pb.gz");
    let profiles = json!([{"type": "cpu", "uri": uri, "bytes": 1, "samples": 7}]);
    let target = json!({"pod": "orders-1", "phase": "Succeeded", "profiles": profiles});
    let status = json!({"status": {"phase": "Succeeded", "samples": 7, "targets": [target]}});
    api.patch_status("now", &PatchParams::default(), &Patch::Merge(status)).await.unwrap().uid().unwrap()
}

/// Gives `reader` the right to read profiles in the namespace.
async fn allow(client: &Client) {
    let rule = json!({"apiGroups": ["data.fleetprof.dev"], "resources": ["profilesessions/profile"], "verbs": ["get"]});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "reader"}, "rules": [rule]});
    apply(Api::<Role>::namespaced(client.clone(), NAMESPACE), "reader", role).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}],
    });
    apply(Api::<RoleBinding>::namespaced(client.clone(), NAMESPACE), "reader", binding).await;
}

async fn check_rights(client: &Client) {
    allow(client).await;
    let impersonated = |user: &str| {
        let user = user.to_owned();
        async move {
            let mut config = config().await;
            config.auth_info.impersonate = Some(user);
            Client::try_from(config).unwrap()
        }
    };
    let reader = impersonated("reader").await;
    eventually("who has the right reads", 20, || async { get(&reader, PROFILE).await.0 == 200 }).await;
    let (code, body) = get(&impersonated("stranger").await, PROFILE).await;
    assert_eq!(code, 403, "{}", String::from_utf8_lossy(&body));
    let (code, _) = get(&reader, &PROFILE.replace("now/profile", "now/top")).await;
    assert_eq!(code, 403, "the right to one subresource is not the right to another");
}

async fn check_answers(client: &Client) {
    let (code, body) = get(client, PROFILE).await;
    assert_eq!(code, 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(fleetprof_profile::total(&decoded(&body), 0), 7);
    let (code, table) = get(client, &PROFILE.replace("now/profile", "now/top")).await;
    println!("top:\n{}", String::from_utf8_lossy(&table));
    assert_eq!(code, 200);
    let (code, body) = get(client, &PROFILE.replace("now/", "missing/")).await;
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((code, &status["reason"]), (404, &"NotFound".into()));
    let listed = client.list_api_group_resources("data.fleetprof.dev/v1alpha1").await.unwrap();
    assert_eq!(listed.resources.len(), 2);
}

/// Whether a namespace can be deleted now.
async fn check_namespace(client: &Client, name: &str, seconds: u64) -> bool {
    namespace(client, name).await;
    let gone = goes(client, name, seconds).await;
    println!("namespace {name} goes within {gone:?}");
    gone.is_some()
}

/// A server that is gone blocks the deletion of every namespace of the cluster until the standby answers.
async fn check_without_leader(client: &Client, leader: &ReadService, standby: &ReadService) {
    eventually("the API server sees that it is down", 60, || async {
        availability(client).await.0 == "False"
    })
    .await;
    assert!(!check_namespace(client, "fleetprof-while-down", 15).await, "this Kubernetes needs no standby");
    registration::hand_over(client, leader, standby).await.unwrap();
    let api: Api<Namespace> = Api::all(client.clone());
    let freed = eventually("with the standby the namespace goes", 180, || async {
        api.get_opt("fleetprof-while-down").await.unwrap().is_none()
    });
    println!("once the standby answers, it goes within {:?}", freed.await);
    assert!(check_namespace(client, "fleetprof-standby", 60).await);
    let (code, body) = get(client, PROFILE).await;
    println!("reading without a leader: {code} {}", String::from_utf8_lossy(&body));
    assert_eq!(code, 503);
}

async fn stored_profile(volume: &std::path::Path, uid: &str) {
    let results = open(volume).await;
    let scope = scope_of("cap", uid, "orders-1");
    results.put_slice(&scope, cpu(0), slice(&[("work", 6), ("wait", 1)]).into(), [0; 32]).await.unwrap();
    results.assemble(&scope, ProfileKind::Cpu, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster; see the top of the file"]
async fn a_real_api_server_serves_profiles_and_never_holds_up_a_namespace() {
    let client = Client::try_from(config().await).unwrap();
    assert!(served::has_front_proxy(&client).await, "the API server has no aggregation layer");
    let address =
        std::env::var("FLEETPROF_TEST_ADDRESS").expect("FLEETPROF_TEST_ADDRESS is this machine's address");
    let address = format!("{address}:0").parse().unwrap();
    let (certificates, volume) = (Certificates::new(), tempfile::tempdir().unwrap());
    namespace(&client, NAMESPACE).await;
    stored_profile(volume.path(), &ended_session(&client).await).await;
    served::install(&client).await;
    assert!(check_namespace(&client, "fleetprof-not-registered", 60).await);

    let leader = served::leader(&client, open(volume.path()).await, address, &certificates).await;
    let standby = served::standby(address, &certificates).await;
    served::expose(&client, &leader).await;
    served::expose(&client, &standby).await;
    registration::register(&client, &leader.service(), &certificates.ca).await.unwrap();
    let up =
        eventually("the API server takes it", 60, || async { get(&client, PROFILE).await.0 == 200 }).await;
    println!("served after {up:?}: {:?}", availability(&client).await);
    check_answers(&client).await;
    check_rights(&client).await;
    assert!(check_namespace(&client, "fleetprof-while-up", 60).await);

    let (address, service) = (leader.address, leader.service());
    drop(leader);
    check_without_leader(&client, &service, &standby.service()).await;
    let leader = served::leader(&client, open(volume.path()).await, address, &certificates).await;
    registration::register(&client, &leader.service(), &certificates.ca).await.unwrap();
    let again =
        eventually("the next leader is taken", 60, || async { get(&client, PROFILE).await.0 == 200 }).await;
    println!("the next leader serves after {again:?}");
    served::uninstall(&client).await;
    assert!(goes(&client, NAMESPACE, 120).await.is_some());
}
