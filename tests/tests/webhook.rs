//! Does a real API server take what the webhook answers? Certificates, registration, injection under each Pod
//! Security level, stamping of sessions, and life without the webhook.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fleetprof_core::agent::PodSecurity;
use fleetprof_core::image::AgentImages;
use fleetprof_core::inject::{AgentSettings, ClusterRules};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::{ClusterProfilingPolicy, ProfilingPolicy};
use fleetprof_operator::server::{ConnectionMetrics, Limits};
use fleetprof_operator::tls::{CertificateNames, Held, TlsSource, ensure_certificates, serve};
use fleetprof_operator::watched::WatchMetrics;
use fleetprof_operator::webhook::registration::{self, Names};
use fleetprof_operator::webhook::{Index, Metrics, Refusals, WebhookState, router};
use fleetprof_tests::people::{cluster_policy, create, object};
use fleetprof_tests::{admin, api_server, chart, person, wait_for};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, Pod, ResourceQuota, Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

const SOON: Duration = Duration::from_secs(20);

async fn server() -> Result<Client> {
    let kubeconfig = api_server()?;
    chart::crds(&kubeconfig)?;
    admin(&kubeconfig).await
}

/// A namespace of its own, which can run pods.
async fn namespace(client: &Client, name: &str, labels: Value) -> Result<String> {
    let body =
        serde_json::from_value(json!({"metadata": {"generateName": format!("{name}-"), "labels": labels}}))?;
    let name = Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &body).await?.name_any();
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &name);
    wait_for("the namespace has its service account", SOON, || async {
        Ok(accounts.get_opt("default").await?)
    })
    .await?;
    Ok(name)
}

fn certificate_names(name: &str) -> CertificateNames {
    CertificateNames { dns_names: vec!["localhost".into()], ..CertificateNames::of(name, "unused") }
}

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

/// A webhook that serves the API server by URL.
struct Webhook {
    names: Names,
    port: u16,
    tls: TlsSource,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Webhook {
    async fn start(client: &Client, own: &str) -> Result<Self> {
        let secrets = certificate_names("webhook");
        ensure_certificates(client, own, &secrets, &mut Held::default(), Timestamp::now()).await?;
        let tls = TlsSource::watch(client.clone(), own, &secrets.tls_secret);
        let agent = AgentSettings {
            pull_policy: "Never".into(),
            gateway: "https://gateway:8443".into(),
            ca_bundle: tls.loaded().await.ca_bundle().to_string(),
            token_ttl_seconds: 3600,
        };
        let index = Index::watch(client, &WatchMetrics::default());
        index.policies_synced().await;
        index.namespaces_synced().await;
        index.resources_synced().await;
        let state = WebhookState {
            index,
            refusals: Refusals::default(),
            agent: watch::channel(Arc::new(agent)).1,
            rules: ClusterRules {
                excluded_namespaces: vec!["kube-system".into(), own.into()],
                default_pod_security: PodSecurity::Privileged,
                // The most that can be added; the pods have to start with it.
                allow_root: true,
                images: AgentImages { default: "fleetprof-agent:test".into(), allowed: vec![] },
                attach_disabled: false,
                agent_resources: Value::Null,
            }
            .into(),
            own_user: "system:serviceaccount:fleetprof:fleetprof-operator".into(),
            metrics: Metrics::register(&mut prometheus_client::registry::Registry::default()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (stop, stopped) = oneshot::channel::<()>();
        let limits = Limits::new("webhook", (64, 64), ConnectionMetrics::default());
        let serving = serve(listener, tls.clone(), router(state), None, limits, async move {
            let _ = stopped.await;
        });
        let ended = tokio::spawn(async move {
            let _ = serving.await;
        });
        let names = Names { fullname: format!("fleetprof-{own}"), namespace: own.into() };
        let empty = serde_json::from_value(json!({"metadata": {"name": names.fullname}}))?;
        Api::<MutatingWebhookConfiguration>::all(client.clone())
            .create(&PostParams::default(), &empty)
            .await?;
        Ok(Self { names, port, tls, stop, ended })
    }

    /// What the leader would register for the policies of `namespaces`, but by URL.
    async fn webhooks(&self, client: &Client, namespaces: &[&str]) -> Result<Vec<Value>> {
        let policies = Api::<ProfilingPolicy>::all(client.clone()).list(&ListParams::default()).await?;
        let ours = policies
            .items
            .into_iter()
            .filter(|p| p.namespace().is_some_and(|n| namespaces.contains(&n.as_str())));
        let ours: Vec<ProfilingPolicy> = ours.collect();
        self.webhooks_of(ours.iter().map(PolicyView::from), namespaces)
    }

    /// The same for these policies; sessions of `namespaces` alone are stamped.
    fn webhooks_of<'a>(
        &self,
        policies: impl IntoIterator<Item = PolicyView<'a>>,
        namespaces: &[&str],
    ) -> Result<Vec<Value>> {
        let ca = self.tls.ca_bundle().context("loaded")?;
        let mut webhooks = registration::webhooks(policies, &ca, &self.names);
        for webhook in &mut webhooks {
            let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap_or_default().to_owned();
            webhook["clientConfig"] = json!({"caBundle": webhook["clientConfig"]["caBundle"], "url": format!("https://localhost:{}{path}", self.port)});
            if path.ends_with("sessions") {
                // Ignore sessions of other tests on this API server.
                let ours = [namespaces, &[&self.names.namespace]].concat();
                webhook["namespaceSelector"] = json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ours}]});
            }
        }
        Ok(webhooks)
    }
}

async fn policy(client: &Client, namespace: &str) -> Result<()> {
    create(client, &object("ProfilingPolicy", namespace, "all", &json!({"selector": {}})), false).await?;
    Ok(())
}

/// A pod that passes Pod Security `restricted`, but for what `security` of its container says.
fn pod(security: Value) -> Pod {
    let mut context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    for (key, value) in security.as_object().into_iter().flatten() {
        context[key] = value.clone();
    }
    let pod = json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "app", "image": "app:1", "securityContext": context}]}});
    serde_json::from_value(pod).unwrap_or_default()
}

/// Creates `pod` for real and gives it back if it has the sidecar as its last init container.
async fn injected(client: &Client, namespace: &str, pod: &Pod) -> Result<Option<Pod>> {
    let stored =
        Api::<Pod>::namespaced(client.clone(), namespace).create(&PostParams::default(), pod).await?;
    let spec = stored.spec.as_ref().context("a spec")?;
    let last = spec.init_containers.iter().flatten().last();
    Ok(last
        .is_some_and(|c| c.name == "fleetprof-agent" && c.restart_policy.as_deref() == Some("Always"))
        .then_some(stored))
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
    stamped(&plain).await?;
    withdrawn(&client, &webhook, &namespaces).await?;
    without_webhook(&client, webhook, &plain).await
}

/// Writes the webhooks; writing them again is not needed, so what the API server adds is what we write out.
async fn register(client: &Client, webhook: &Webhook, namespaces: &[&str]) -> Result<()> {
    let wanted = webhook.webhooks(client, namespaces).await?;
    assert_eq!(wanted.len(), 2);
    assert!(registration::apply(client, &webhook.names, &wanted).await?);
    assert!(!registration::apply(client, &webhook.names, &wanted).await?, "nothing differs");
    Ok(())
}

/// A namespace with a policy and these LimitRanges and quotas.
async fn ruled(client: &Client, name: &str, rules: &[Value]) -> Result<String> {
    let namespace = namespace(client, name, json!({})).await?;
    policy(client, &namespace).await?;
    for (n, rule) in rules.iter().enumerate() {
        let mut object = rule.clone();
        object["metadata"] = json!({"name": format!("rule-{n}")});
        if object["spec"]["limits"].is_array() {
            let ranges = Api::<LimitRange>::namespaced(client.clone(), &namespace);
            ranges.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            continue;
        }
        let quotas = Api::<ResourceQuota>::namespaced(client.clone(), &namespace);
        let quota = quotas.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        // What the quota controller does; nothing is used yet.
        let hard = rule["spec"]["hard"].clone();
        let used: serde_json::Map<_, _> =
            hard.as_object().into_iter().flatten().map(|(key, _)| (key.clone(), json!("0"))).collect();
        let status = json!({"status": {"hard": hard, "used": used}});
        let name = quota.name_any();
        quotas.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    Ok(namespace)
}

fn limit_range(kind: &str, rule: Value) -> Value {
    let mut limit = rule;
    limit["type"] = json!(kind);
    json!({"spec": {"limits": [limit]}})
}

/// A pod of 100m and 64Mi, as requests and limits, with these resources of its own.
fn sized(of_pod: Value) -> Result<Pod> {
    let mut pod = serde_json::to_value(pod(json!({"runAsUser": 1000})))?;
    let amounts = json!({"cpu": "100m", "memory": "64Mi"});
    pod["spec"]["containers"][0]["resources"] = json!({"requests": amounts, "limits": amounts});
    if !of_pod.is_null() {
        pod["spec"]["resources"] = of_pod;
    }
    Ok(serde_json::from_value(pod)?)
}

#[tokio::test]
async fn no_pod_is_refused_because_of_what_the_agent_asks_for() -> Result<()> {
    let client = server().await?;
    let own = namespace(&client, "own", json!({})).await?;
    let (both, none) = (json!({"cpu": "100m", "memory": "64Mi"}), json!(null));
    let container = |rule: Value| vec![limit_range("Container", rule)];
    let quota = |hard: Value| vec![json!({"spec": {"hard": hard}})];
    // (name, rules, resources of the pod, whether it gets an agent)
    let cases = [
        ("min-cpu", container(json!({"min": {"cpu": "50m"}})), none.clone(), true),
        ("max-memory", container(json!({"max": {"memory": "128Mi"}})), none.clone(), true),
        ("ratio", container(json!({"maxLimitRequestRatio": {"memory": "4"}})), none.clone(), true),
        ("default-cpu", container(json!({"default": {"cpu": "20m"}})), none.clone(), true),
        ("small", container(json!({"max": {"cpu": "100m", "memory": "64Mi"}})), none.clone(), true),
        (
            "tiny",
            container(json!({"max": {"memory": "16Mi"}, "default": {"memory": "8Mi"}})),
            none.clone(),
            false,
        ),
        ("of-pods", vec![limit_range("Pod", json!({"max": {"memory": "200Mi"}}))], none.clone(), true),
        ("pod-requests", vec![], json!({"requests": both}), true),
        ("pod-limits", vec![], json!({"limits": {"cpu": "200m", "memory": "128Mi"}}), true),
        (
            "quota-requests",
            quota(json!({"requests.cpu": "100m", "requests.memory": "64Mi"})),
            none.clone(),
            true,
        ),
        ("quota-limits", quota(json!({"limits.memory": "64Mi", "limits.cpu": "100m"})), none, false),
    ];
    let mut namespaces = Vec::new();
    for (name, rules, ..) in &cases {
        namespaces.push(ruled(&client, name, rules).await?);
    }
    let names: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    let webhook = Webhook::start(&client, &own).await?;
    register(&client, &webhook, &names).await?;
    let plain = || async { injected(&client, names[0], &sized(json!(null))?).await };
    wait_for("the API server sends pods", SOON, plain).await?;
    for ((name, _, of_pod, gets_one), namespace) in cases.iter().zip(&names) {
        let sized = if *name == "tiny" { pod(json!({"runAsUser": 1000})) } else { sized(of_pod.clone())? };
        let stored =
            injected(&client, namespace, &sized).await.with_context(|| format!("{name}: refused"))?;
        assert_eq!(stored.is_some(), *gets_one, "{name}");
        if *name == "default-cpu" {
            let spec = stored.context("injected")?.spec.context("a spec")?;
            let agent = spec.init_containers.into_iter().flatten().next_back().context("the agent")?;
            let limits = agent.resources.and_then(|r| r.limits).context("limits")?;
            assert_eq!(limits["cpu"].0, "1", "not the default of small apps");
        }
    }
    Api::<MutatingWebhookConfiguration>::all(client.clone())
        .delete(&webhook.names.fullname, &DeleteParams::default())
        .await?;
    let _ = webhook.stop.send(());
    webhook.ended.await?;
    Ok(())
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
    Api::<MutatingWebhookConfiguration>::all(client.clone())
        .delete(&webhook.names.fullname, &DeleteParams::default())
        .await?;
    let _ = webhook.stop.send(());
    webhook.ended.await?;
    Ok(())
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
    let _ = webhook.stop.send(());
    webhook.ended.await?;
    let began = std::time::Instant::now();
    assert!(
        injected(client, namespace, &pod(json!({"runAsUser": 1}))).await?.is_none(),
        "the pod starts without an agent"
    );
    assert!(began.elapsed() < Duration::from_secs(4), "and soon: {:?}", began.elapsed());
    Api::<MutatingWebhookConfiguration>::all(client.clone())
        .delete(&webhook.names.fullname, &DeleteParams::default())
        .await?;
    Ok(())
}
