//! What do the tests of the webhook stand on? A webhook that a real API server calls, and pods to be
//! injected.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fleetprof_core::agent::PodSecurity;
use fleetprof_core::image::AgentImages;
use fleetprof_core::inject::{AgentSettings, ClusterRules};
use fleetprof_core::view::PolicyView;
use fleetprof_crds::ProfilingPolicy;
use fleetprof_operator::server::{ConnectionMetrics, Limits};
use fleetprof_operator::tls::{CertificateNames, Held, TlsSource, ensure_certificates, serve};
use fleetprof_operator::watched::WatchMetrics;
use fleetprof_operator::webhook::registration::{self, Names};
use fleetprof_operator::webhook::{Index, Metrics, Refusals, WebhookState, router};
use fleetprof_tests::people::{create, object};
use fleetprof_tests::{admin, api_server, chart, wait_for};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

pub const SOON: Duration = Duration::from_secs(20);

pub async fn server() -> Result<Client> {
    let kubeconfig = api_server()?;
    chart::crds(&kubeconfig)?;
    admin(&kubeconfig).await
}

/// A namespace of its own, which can run pods.
pub async fn namespace(client: &Client, name: &str, labels: Value) -> Result<String> {
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

pub fn certificate_names(name: &str) -> CertificateNames {
    CertificateNames { dns_names: vec!["localhost".into()], ..CertificateNames::of(name, "unused") }
}

/// A webhook that serves the API server by URL.
pub struct Webhook {
    pub names: Names,
    port: u16,
    tls: TlsSource,
    registry: Registry,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Webhook {
    pub async fn start(client: &Client, own: &str) -> Result<Self> {
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
        let mut registry = Registry::default();
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
                node_agents: None,
                agent_resources: Value::Null,
            }
            .into(),
            own_user: "system:serviceaccount:fleetprof:fleetprof-operator".into(),
            metrics: Metrics::register(&mut registry),
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
        Ok(Self { names, port, tls, registry, stop, ended })
    }

    /// How often it has left out a pod for this reason.
    pub fn skipped(&self, reason: &str) -> Result<u64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        let row =
            format!("fleetprof_admission_total{{webhook=\"pods\",outcome=\"skipped\",reason=\"{reason}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&row));
        Ok(count.map_or(Ok(0), str::parse)?)
    }

    /// Serves no longer.
    pub async fn stop(self) -> Result<()> {
        let _ = self.stop.send(());
        Ok(self.ended.await?)
    }

    /// Leaves nothing of it in the API server.
    pub async fn remove(self, client: &Client) -> Result<()> {
        Api::<MutatingWebhookConfiguration>::all(client.clone())
            .delete(&self.names.fullname, &DeleteParams::default())
            .await?;
        self.stop().await
    }

    /// What the leader would register for the policies of `namespaces`, but by URL.
    pub async fn webhooks(&self, client: &Client, namespaces: &[&str]) -> Result<Vec<Value>> {
        let policies = Api::<ProfilingPolicy>::all(client.clone()).list(&ListParams::default()).await?;
        let ours = policies
            .items
            .into_iter()
            .filter(|p| p.namespace().is_some_and(|n| namespaces.contains(&n.as_str())));
        let ours: Vec<ProfilingPolicy> = ours.collect();
        self.webhooks_of(ours.iter().map(PolicyView::from), namespaces)
    }

    /// The same for these policies; sessions of `namespaces` alone are stamped.
    pub fn webhooks_of<'a>(
        &self,
        policies: impl IntoIterator<Item = PolicyView<'a>>,
        namespaces: &[&str],
    ) -> Result<Vec<Value>> {
        let ca = self.tls.ca_bundle().context("loaded")?;
        let mut webhooks = registration::webhooks(policies, None, &ca, &self.names);
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

pub async fn policy(client: &Client, namespace: &str) -> Result<()> {
    create(client, &object("ProfilingPolicy", namespace, "all", &json!({"selector": {}})), false).await?;
    Ok(())
}

/// A pod that passes Pod Security `restricted`, but for what `security` of its container says.
pub fn pod(security: Value) -> Pod {
    let mut context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    for (key, value) in security.as_object().into_iter().flatten() {
        context[key] = value.clone();
    }
    let pod = json!({"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "app", "image": "app:1", "securityContext": context}]}});
    serde_json::from_value(pod).unwrap_or_default()
}

/// Creates `pod` for real and gives it back if it has the sidecar as its last init container.
pub async fn injected(client: &Client, namespace: &str, pod: &Pod) -> Result<Option<Pod>> {
    let stored =
        Api::<Pod>::namespaced(client.clone(), namespace).create(&PostParams::default(), pod).await?;
    let spec = stored.spec.as_ref().context("a spec")?;
    let last = spec.init_containers.iter().flatten().last();
    Ok(last
        .is_some_and(|c| c.name == "fleetprof-agent" && c.restart_policy.as_deref() == Some("Always"))
        .then_some(stored))
}

/// Writes the webhooks; writing them again is not needed, so what the API server adds is what we write out.
pub async fn register(client: &Client, webhook: &Webhook, namespaces: &[&str]) -> Result<()> {
    let wanted = webhook.webhooks(client, namespaces).await?;
    assert_eq!(wanted.len(), 2);
    assert!(registration::apply(client, &webhook.names, &wanted).await?);
    assert!(!registration::apply(client, &webhook.names, &wanted).await?, "nothing differs");
    Ok(())
}
