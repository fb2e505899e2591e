//! The router without a socket.

mod admission;
mod registration;

use std::fmt::Debug;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine;
use fleetprof_core::agent::PodSecurity;
use fleetprof_core::image::AgentImages;
use fleetprof_core::inject::{AgentSettings, ClusterRules};
use fleetprof_crds::ProfilingPolicy;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{LimitRange, Namespace};
use kube::Resource;
use kube::core::PartialObjectMeta;
use kube_runtime::watcher::Event;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use super::{Index, Metrics, Refusals, WebhookState, router};
use crate::watched::{Cache, Guarded, PolicyCaches, ResourceCaches, WatchMetrics, Writer};

/// A webhook whose namespaces and policies are given.
pub struct Webhook {
    policies: Writer<ProfilingPolicy>,
    router: axum::Router,
    registry: Registry,
}

impl Webhook {
    /// With the policy `all` in the namespaces `shop`, `quiet`, which opted out, and `tight`, whose containers are
    /// small.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let agent = AgentSettings {
            pull_policy: "Never".into(),
            gateway: "https://gateway:8443".into(),
            ca_bundle: "CA".into(),
            token_ttl_seconds: 3600,
        };
        let (namespaced, mut policies) = Cache::new(WatchMetrics::default());
        let (cluster, mut no_cluster) = Cache::new(WatchMetrics::default());
        let (namespaces, mut labels) = Cache::new(WatchMetrics::default());
        let disabled = json!({"fleetprof.dev/profiling": "disabled"});
        let none = json!({});
        let spaces = [("shop", none.clone()), ("quiet", disabled), ("tight", none)];
        list(&mut labels, spaces.map(|(name, labels)| namespace(name, labels)));
        list(&mut policies, ["shop", "quiet", "tight"].map(|name| policy(name, "all", json!({}))));
        list(&mut no_cluster, []);
        let (limit_ranges, mut ranges) = Cache::new(WatchMetrics::default());
        let (quotas, mut no_quotas) = Cache::new(WatchMetrics::default());
        list(&mut ranges, [limit_range("tight")]);
        list(&mut no_quotas, []);
        let resources = ResourceCaches { limit_ranges, quotas };
        let index = Index::new(PolicyCaches { namespaced, cluster }, namespaces, resources);
        let images = AgentImages { default: "agent:1".into(), allowed: vec![] };
        let rules = ClusterRules {
            excluded_namespaces: vec!["kube-system".into()],
            default_pod_security: PodSecurity::Privileged,
            allow_root: false,
            images,
            attach_disabled: false,
            node_agents: None,
            agent_resources: Value::Null,
        };
        let state = WebhookState {
            index,
            refusals: Refusals::default(),
            agent: watch::channel(Arc::new(agent)).1,
            rules: rules.into(),
            own_user: "system:serviceaccount:fleetprof:fleetprof-operator".into(),
            metrics,
        };
        Self { policies, router: router(state), registry }
    }

    /// The router itself.
    pub fn router(self) -> axum::Router {
        self.router
    }

    /// Replaces the policies.
    pub fn set_policies<const N: usize>(&mut self, policies: [ProfilingPolicy; N]) {
        list(&mut self.policies, policies);
    }

    /// Sends a body and reads the answer's JSON.
    pub async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> (StatusCode, Value) {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(Body::from(body.into()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Asks about an object and gives back the `response`; every one must be allowed and carry the uid.
    pub async fn review(&self, path: &str, request: Value) -> Value {
        let (status, answer) = self
            .post(
                path,
                json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
                    .to_string(),
            )
            .await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
        );
        let response = answer["response"].clone();
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(true)));
        response
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// Fills a cache as a first list of the watch does.
fn list<K, const N: usize>(writer: &mut Writer<K>, objects: [K; N])
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    writer.take(Event::Init, &|_| {});
    objects.into_iter().for_each(|object| writer.take(Event::InitApply(Guarded(Ok(object))), &|_| {}));
    writer.take(Event::InitDone, &|_| {});
}

fn namespace(name: &str, labels: Value) -> PartialObjectMeta<Namespace> {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
}

fn limit_range(namespace: &str) -> LimitRange {
    let limits = json!([{"type": "Container", "max": {"memory": "16Mi"}}]);
    let object = json!({"metadata": {"namespace": namespace, "name": "small"}, "spec": {"limits": limits}});
    serde_json::from_value(object).unwrap()
}

pub fn policy(namespace: &str, name: &str, agent: Value) -> ProfilingPolicy {
    serde_json::from_value(json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfilingPolicy",
        "metadata": {"namespace": namespace, "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"selector": {}, "agent": agent},
    }))
    .unwrap()
}

/// The operations in a response; none without a patch.
pub fn patch(response: &Value) -> Vec<Value> {
    let Some(patch) = response["patch"].as_str() else {
        assert!(response.get("patchType").is_none());
        return Vec::new();
    };
    assert_eq!(response["patchType"], "JSONPatch");
    serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(patch).unwrap()).unwrap()
}

pub fn warning(response: &Value) -> &str {
    response["warnings"][0].as_str().unwrap_or_default()
}
