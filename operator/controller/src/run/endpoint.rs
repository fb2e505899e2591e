//! How do agents and the API server find the leader? Each selectorless Service has one EndpointSlice, and it
//! names this pod.
//!
//! Each write is based on the version that was read just before: a leader that was frozen in between must not
//! send the agents back to itself ([`crate::client`]).

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::settings::RunSettings;
use fleetprof_crds::names::FIELD_MANAGER;

/// How often it is written again: somebody may have deleted it.
const EVERY: Duration = Duration::from_secs(60);
/// How often a write is tried that somebody else was faster than.
const TRIES: u32 = 3;
/// Before this minor version the API server's own proxy looks for aggregated APIs in Endpoints, not in
/// EndpointSlices.
const SLICES_SINCE: u32 = 33;

/// Writes it again every minute, for ever.
pub async fn keep(client: Client, settings: RunSettings) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(error) = publish(&client, &settings).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "failed to update the leader's address; retrying in a minute"
            );
        }
    }
}

/// Names this pod as the one endpoint of the Service `…-leader`.
///
/// # Errors
/// When the API server refuses.
pub async fn publish(client: &Client, settings: &RunSettings) -> anyhow::Result<()> {
    for service in services(settings) {
        slice(client, settings, &service).await?;
    }
    let version = client.apiserver_version().await.context("failed to get the version of the API server")?;
    let minor: u32 = version
        .minor
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap_or(SLICES_SINCE);
    if minor < SLICES_SINCE { endpoints(client, settings).await } else { Ok(()) }
}

/// A Service without a selector, and the ports behind it.
struct Service {
    name: String,
    ports: Vec<serde_json::Value>,
}

/// The Services that the leader alone serves.
fn services(settings: &RunSettings) -> Vec<Service> {
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP"});
    let leader = Service {
        name: format!("{}-leader", settings.name),
        ports: vec![port("gateway", settings.gateway_port), port("data", settings.data_port)],
    };
    let alerts = Service {
        name: format!("{}-alerts", settings.name),
        ports: vec![port("alerts", settings.alerts_port)],
    };
    let alerts = (!settings.alerts_secret.is_empty()).then_some(alerts);
    [leader].into_iter().chain(alerts).collect()
}

async fn endpoints(client: &Client, settings: &RunSettings) -> anyhow::Result<()> {
    let name = format!("{}-leader", settings.name);
    let body = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": name, "namespace": settings.namespace, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": settings.pod_ip.to_string()}],
            "ports": [
                {"name": "gateway", "port": settings.gateway_port, "protocol": "TCP"},
                {"name": "data", "port": settings.data_port, "protocol": "TCP"},
            ],
        }],
    });
    let api = Api::<Endpoints>::namespaced(client.clone(), &settings.namespace);
    write(&api, &name, body).await.with_context(|| {
        format!(
            "failed to write Endpoints {}/{name}; check the operator's Role for endpoints",
            settings.namespace
        )
    })
}

async fn slice(client: &Client, settings: &RunSettings, service: &Service) -> anyhow::Result<()> {
    let Service { name, ports } = service;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": settings.namespace,
            "labels": {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "fleetprof-operator"},
        },
        "addressType": if settings.pod_ip.is_ipv6() { "IPv6" } else { "IPv4" },
        "endpoints": [{"addresses": [settings.pod_ip.to_string()], "conditions": {"ready": true, "serving": true, "terminating": false}}],
        "ports": ports,
    });
    let api = Api::<EndpointSlice>::namespaced(client.clone(), &settings.namespace);
    write(&api, name, slice).await.with_context(|| {
        format!(
            "failed to write EndpointSlice {}/{name}; check the operator's Role for endpointslices",
            settings.namespace
        )
    })
}

/// Applies the object over the version that is there now.
async fn write<K>(api: &Api<K>, name: &str, mut object: Value) -> kube::Result<()>
where
    K: Clone + DeserializeOwned + std::fmt::Debug + ResourceExt,
{
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for again in (0..TRIES).rev() {
        object["metadata"]["resourceVersion"] = json!(version(api, name).await?);
        match api.patch(name, &params, &Patch::Apply(&object)).await {
            Err(kube::Error::Api(answer)) if answer.code == 409 && again > 0 => {}
            written => return written.map(drop),
        }
    }
    Ok(())
}

/// The version of the object, if there is one. A patch that changes nothing tells it: the Role allows no
/// reading.
async fn version<K>(api: &Api<K>, name: &str) -> kube::Result<Option<String>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug + ResourceExt,
{
    match api.patch(name, &PatchParams::default(), &Patch::Merge(json!({}))).await {
        Ok(found) => Ok(found.resource_version()),
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}
