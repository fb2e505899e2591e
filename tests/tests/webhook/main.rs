//! Does a real API server take what the webhook answers? Certificates, registration, injection under each Pod
//! Security level, stamping of sessions, and life without the webhook.
#![allow(missing_docs)]

mod resources;
mod rig;

use std::time::Duration;

use anyhow::{Context, Result};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::ClusterProfilingPolicy;
use fleetprof_operator::tls::{Held, TlsSource, ensure_certificates};
use fleetprof_operator::webhook::registration::{self, Names};
use fleetprof_tests::people::{cluster_policy, create, object};
use fleetprof_tests::{api_server, chart, person, wait_for};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::rig::{SOON, Webhook, certificate_names, injected, namespace, pod, policy, register, server};

#[tokio::test]
async fn replicas_that_race_agree_on_one_certificate_and_a_new_one_arrives_by_the_watch() -> Result<()> {
    let client = server().await?;
    let namespace = namespace(&client, "certificates", json!({})).await?;
    let names = certificate_names("race");
    let now = Timestamp::now();
    let pass = async || ensure_certificates(&client, &namespace, &names, &mut Held::default(), now).await;
    let (a, b, c) = tokio::join!(pass(), pass(), pass());
    let (a, b, c) = (a?, b?, c?);
    assert!(a.ca_bundle == b.ca_bundle && b.ca_bundle == c.ca_bundle, "one CA");
    assert!(a.ticket_key == b.ticket_key && b.ticket_key == c.ticket_key, "one key for tickets");
    assert!(a.changed || b.changed || c.changed);
    assert!(!pass().await?.changed, "what is good is left alone");

    let mut tls = TlsSource::watch(client.clone(), &namespace, &names.tls_secret);
    assert_eq!(tls.loaded().await.ca_bundle(), a.ca_bundle);
    let first = tls.take().context("loaded")?.not_after();
    let later = now + jiff::SignedDuration::from_hours(24 * 61);
    assert!(
        ensure_certificates(&client, &namespace, &names, &mut Held::default(), later).await?.changed,
        "two thirds of the leaf's life are over"
    );
    tokio::time::timeout(SOON, tls.changed()).await.context("the watch brings the new leaf")?;
    assert!(tls.take().context("loaded")?.not_after() > first);

    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    secrets.delete(&names.tls_secret, &DeleteParams::default()).await?;
    let again = ensure_certificates(&client, &namespace, &names, &mut Held::default(), later).await?;
    assert!(again.changed && again.ca_bundle == a.ca_bundle, "a deleted leaf is recreated by the same CA");
    let foreign = names.clone().with_existing("made-elsewhere");
    let refused = ensure_certificates(&client, &namespace, &foreign, &mut Held::default(), later)
        .await
        .err()
        .context("there is no such Secret")?;
    assert!(refused.to_string().contains("ca.crt is not usable"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_lost_ca_is_restored_by_the_leader_that_held_it_and_announced_by_one_that_did_not() -> Result<()> {
    let client = server().await?;
    let namespace = namespace(&client, "losses", json!({})).await?;
    let names = certificate_names("losses");
    let now = Timestamp::now();
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    let data = async |name: &str, key: &str| -> Result<Vec<u8>> {
        let secret = secrets.get(name).await?;
        Ok(secret.data.and_then(|mut data| data.remove(key)).context("it is in the Secret")?.0)
    };
    let mut held = Held::default();
    let first = ensure_certificates(&client, &namespace, &names, &mut held, now).await?;
    let (key, leaf) = (data(&names.ca_secret, "ca.key").await?, data(&names.tls_secret, "tls.crt").await?);

    secrets.delete(&names.ca_secret, &DeleteParams::default()).await?;
    let restored = ensure_certificates(&client, &namespace, &names, &mut held, now).await?;
    assert!(restored.changed && restored.ca_bundle == first.ca_bundle, "the same CA");
    assert_eq!(restored.ticket_key, first.ticket_key, "attached agents keep their credentials");
    assert_eq!(data(&names.ca_secret, "ca.key").await?, key);

    let junk = json!({"stringData": {"ca.key": "junk"}});
    secrets.patch(&names.ca_secret, &PatchParams::default(), &Patch::Merge(junk)).await?;
    let next = ensure_certificates(&client, &namespace, &names, &mut Held::default(), now).await?;
    assert!(!next.changed, "a key that cannot be read is left to be restored by a person");

    secrets.delete(&names.ca_secret, &DeleteParams::default()).await?;
    let next = ensure_certificates(&client, &namespace, &names, &mut Held::default(), now).await?;
    assert_ne!(data(&names.ca_secret, "ca.key").await?, key, "it is gone");
    assert_eq!(data(&names.tls_secret, "tls.crt").await?, leaf, "agents still trust what is served");
    assert!(next.ca_bundle.contains(&*first.ca_bundle), "and are told of both CAs");
    Ok(())
}

#[tokio::test]
async fn pods_are_injected_sessions_are_stamped_and_nothing_ever_waits_for_the_webhook() -> Result<()> {
    let client = server().await?;
    let own = namespace(&client, "own", json!({})).await?;
    let plain = namespace(&client, "plain", json!({})).await?;
    let restricted =
        namespace(&client, "restricted", json!({"pod-security.kubernetes.io/enforce": "restricted"})).await?;
    let baseline =
        namespace(&client, "baseline", json!({"pod-security.kubernetes.io/enforce": "baseline"})).await?;
    let namespaces = [plain.as_str(), restricted.as_str(), baseline.as_str()];
    for namespace in namespaces {
        policy(&client, namespace).await?;
    }
    let webhook = Webhook::start(&client, &own).await?;
    register(&client, &webhook, &namespaces).await?;
    let user = json!({"runAsUser": 1000, "runAsGroup": 1000});
    wait_for("the API server sends pods", SOON, || async {
        injected(&client, &plain, &pod(user.clone())).await
    })
    .await?;
    pod_security(&client, &plain, &restricted, &baseline).await?;
    opt_out_and_twice(&client, &plain).await?;
    drained(&client, &plain).await?;
    stamped(&plain).await?;
    withdrawn(&client, &webhook, &namespaces).await?;
    without_webhook(&client, webhook, &plain).await
}

#[tokio::test]
async fn policies_of_the_cluster_inject_in_the_namespaces_that_they_select() -> Result<()> {
    let client = server().await?;
    let team = format!("team-{}", std::process::id());
    let own = namespace(&client, "own", json!({"team": team})).await?;
    let shop = namespace(&client, "shop", json!({"team": team})).await?;
    let quiet = namespace(&client, "quiet", json!({"team": team})).await?;
    let out = namespace(&client, "out", json!({"team": team, "fleetprof.dev/profiling": "disabled"})).await?;
    let other = namespace(&client, "other", json!({})).await?;
    let spec = json!({"selector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}, "namespaceSelector": {"matchLabels": {"team": team}}});
    let stored = create(&client, &cluster_policy(&team, &spec), false).await?;
    // The policy of the namespace wins, and wants no sidecar.
    create(
        &client,
        &object("ProfilingPolicy", &quiet, "own", &json!({"selector": {}, "agent": {"mode": "Ephemeral"}})),
        false,
    )
    .await?;
    let webhook = Webhook::start(&client, &own).await?;
    let policy: ClusterProfilingPolicy = serde_json::from_value(serde_json::to_value(stored)?)?;
    let wanted = webhook.webhooks_of([PolicyView::from(&policy)], &[&shop])?;
    assert_eq!(wanted[0]["name"], format!("{team}.cluster.pods.fleetprof.dev"));
    assert!(registration::apply(&client, &webhook.names, &wanted).await?);
    assert!(!registration::apply(&client, &webhook.names, &wanted).await?, "nothing differs");

    let app = || pod(json!({"runAsUser": 1000}));
    let stored =
        wait_for("the API server sends pods", SOON, || async { injected(&client, &shop, &app()).await })
            .await?;
    assert!(stored.annotations()["fleetprof.dev/injected"].contains(&team), "{:?}", stored.annotations());
    let mut database = app();
    database.metadata.labels = Some([("app".to_owned(), "db".to_owned())].into());
    assert!(injected(&client, &shop, &database).await?.is_none(), "the policy does not select it");
    for (namespace, why) in [
        (&other, "not selected"),
        (&quiet, "served by the namespace's own"),
        (&out, "opted out"),
        (&own, "the operator's own"),
    ] {
        assert!(injected(&client, namespace, &app()).await?.is_none(), "{why}");
    }
    let mut back = app();
    back.metadata.labels = Some([("fleetprof.dev/profiling".to_owned(), "enabled".to_owned())].into());
    assert!(injected(&client, &out, &back).await?.is_some(), "a pod's own label wins over its namespace's");

    Api::<ClusterProfilingPolicy>::all(client.clone()).delete(&team, &DeleteParams::default()).await?;
    webhook.remove(&client).await
}

async fn pod_security(client: &Client, plain: &str, restricted: &str, baseline: &str) -> Result<()> {
    let known = pod(json!({"runAsUser": 1000, "runAsGroup": 2000}));
    let stored = injected(client, restricted, &known).await?.context("a known user passes restricted")?;
    let spec = stored.spec.context("a spec")?;
    let agent = spec.init_containers.iter().flatten().last().context("the agent")?;
    let security = agent.security_context.as_ref().context("a security context")?;
    assert_eq!(
        (security.run_as_user, security.run_as_group, spec.share_process_namespace),
        (Some(1000), Some(2000), Some(true))
    );
    assert!(
        injected(client, restricted, &pod(json!({}))).await?.is_none(),
        "an unknown user is left out of restricted, and starts"
    );
    let unknown = pod(json!({"runAsNonRoot": null}));
    for namespace in [baseline, plain] {
        let stored = injected(client, namespace, &unknown)
            .await?
            .with_context(|| format!("root passes in {namespace}"))?;
        assert!(stored.annotations()["fleetprof.dev/injected"].contains("\"user\":\"root\""));
    }
    Ok(())
}

async fn opt_out_and_twice(client: &Client, namespace: &str) -> Result<()> {
    let mut out = pod(json!({"runAsUser": 1}));
    out.metadata.labels = Some([("fleetprof.dev/profiling".to_owned(), "disabled".to_owned())].into());
    assert!(injected(client, namespace, &out).await?.is_none());
    let mut host = pod(json!({"runAsUser": 1}));
    host.spec.get_or_insert_default().host_pid = Some(true);
    assert!(injected(client, namespace, &host).await?.is_none());

    let once = injected(client, namespace, &pod(json!({"runAsUser": 1}))).await?.context("injected")?;
    let mut copy = Pod { spec: once.spec.clone(), ..Pod::default() };
    copy.metadata.generate_name = Some("copy-".into());
    copy.metadata.annotations = once.metadata.annotations.clone();
    let again = injected(client, namespace, &copy).await?.context("still injected")?;
    assert_eq!(
        again.spec.map(|s| s.init_containers),
        once.spec.map(|s| s.init_containers),
        "a copy of an injected pod is left alone"
    );
    Ok(())
}

/// `kubectl drain` refuses to move pods with data on the node; a pod with an agent has no more of it than
/// before.
async fn drained(client: &Client, namespace: &str) -> Result<()> {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": format!("node-of-{namespace}")}}))?;
    let name = node.name_any();
    Api::<Node>::all(client.clone()).create(&PostParams::default(), &node).await?;
    let kubeconfig = api_server()?;
    let drain = || chart::kubectl(&kubeconfig, &["drain", &name, "--dry-run=client", "--force"], None);
    let mut moved = pod(json!({"runAsUser": 1000}));
    moved.spec.get_or_insert_default().node_name = Some(name.clone());
    let stored = injected(client, namespace, &moved).await?.context("injected")?;
    let said = drain()?;
    assert!(said.contains(&stored.name_any()), "{said}");
    let scratch = json!([{"name": "scratch", "emptyDir": {}}]);
    moved.spec.get_or_insert_default().volumes = serde_json::from_value(scratch)?;
    injected(client, namespace, &moved).await?.context("injected")?;
    let refused = drain().err().context("a pod with an emptyDir")?.to_string();
    assert!(refused.contains("local storage"), "{refused}");
    Api::<Node>::all(client.clone()).delete(&name, &DeleteParams::default()).await?;
    Ok(())
}

async fn stamped(namespace: &str) -> Result<()> {
    let spoofed = json!({"target": {"pods": ["a"]}, "requestedBy": {"username": "admin", "groups": ["system:masters"]}});
    let eve = person(&api_server()?, Some("eve"), &["system:masters", "dev"]).await?;
    let stored = create(&eve, &object("ProfileSession", namespace, "spoofed", &spoofed), false).await?;
    assert_eq!(
        stored.data["spec"]["requestedBy"],
        json!({"username": "eve", "groups": ["system:masters", "dev", "system:authenticated"]})
    );
    let operator = person(
        &api_server()?,
        Some("system:serviceaccount:fleetprof:fleetprof-operator"),
        &["system:masters"],
    )
    .await?;
    let stored =
        create(&operator, &object("ProfileSession", namespace, "on-behalf", &spoofed), false).await?;
    assert_eq!(stored.data["spec"]["requestedBy"]["username"], "admin");
    Ok(())
}

/// Without policies no pod is sent; what was uninstalled is not made again.
async fn withdrawn(client: &Client, webhook: &Webhook, namespaces: &[&str]) -> Result<()> {
    let configurations = Api::<MutatingWebhookConfiguration>::all(client.clone());
    let none = webhook.webhooks(client, &[]).await?;
    assert!(registration::apply(client, &webhook.names, &none).await?);
    let left = configurations.get(&webhook.names.fullname).await?.webhooks.unwrap_or_default();
    assert_eq!(left.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["profilesessions.fleetprof.dev"]);
    assert!(registration::apply(client, &webhook.names, &webhook.webhooks(client, namespaces).await?).await?);

    let other = Names { fullname: format!("{}-gone", webhook.names.fullname), ..webhook.names.clone() };
    let refused =
        registration::apply(client, &other, &none).await.err().context("there is nothing to write into")?;
    assert!(refused.to_string().contains("install or upgrade the chart"), "{refused}");
    assert!(configurations.get_opt(&other.fullname).await?.is_none());
    Ok(())
}

async fn without_webhook(client: &Client, webhook: Webhook, namespace: &str) -> Result<()> {
    let again = || async { injected(client, namespace, &pod(json!({"runAsUser": 1}))).await };
    wait_for("pods are sent again", SOON, again).await?;
    let name = webhook.names.fullname.clone();
    webhook.stop().await?;
    let began = std::time::Instant::now();
    assert!(
        injected(client, namespace, &pod(json!({"runAsUser": 1}))).await?.is_none(),
        "the pod starts without an agent"
    );
    assert!(began.elapsed() < Duration::from_secs(4), "and soon: {:?}", began.elapsed());
    Api::<MutatingWebhookConfiguration>::all(client.clone()).delete(&name, &DeleteParams::default()).await?;
    Ok(())
}
