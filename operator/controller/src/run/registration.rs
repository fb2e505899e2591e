//! What must the cluster know of our certificates and policies? Webhooks and APIService carry the CA;
//! webhooks are as narrow as the policies allow; the APIService names the leader only while there is one.

use std::time::Duration;

use anyhow::Context as _;
use fleetprof_crds::names::{DATA_GROUP, FIELD_MANAGER, VERSION};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

use crate::data_api::FrontProxySource;
use crate::data_api::registration::{ReadService, hand_over, register};
use crate::gateway::Fleet;
use crate::settings::RunSettings;
use crate::tls::{self, CertificateNames, TlsSource};
use crate::watched::{Cache, PolicyCaches};
use crate::webhook::registration;

/// How long is waited for further changes before what should be registered is worked out.
const TOGETHER: Duration = Duration::from_millis(100);
/// How often what is registered is compared with what should be: somebody else may have changed it.
const COMPARE: Duration = Duration::from_secs(30);
/// Delay before a failed registration is retried.
const AGAIN: Duration = Duration::from_secs(5);
/// How often the registrations are deleted while the operator's namespace is terminating.
const WHILE_DELETED: Duration = Duration::from_secs(1);
/// How long handing over may take: what is left of the time to stop is for giving the lease back.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Keeps the webhooks as they should be, for ever: looks when a policy or the certificate changes, and now and
/// then whether somebody else changed them. A refusal is logged and tried again.
///
/// # Errors
/// When the watch of policies ended.
pub async fn keep(
    client: Client,
    settings: RunSettings,
    mut tls: TlsSource,
    policies: PolicyCaches,
    mut edited: watch::Receiver<()>,
) -> anyhow::Result<()> {
    let names =
        registration::Names { fullname: settings.name.clone(), namespace: settings.namespace.clone() };
    let served = settings.rules.get(&settings.namespace).node_agents;
    loop {
        edited.mark_unchanged();
        let mut wait = COMPARE;
        if let Some(ca) = tls.ca_bundle() {
            let wanted = registration::webhooks(policies.all().iter(), served.as_ref(), &ca, &names);
            if let Err(error) = registration::apply(&client, &names, &wanted).await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "failed to register webhooks; pods start without an agent meanwhile"
                );
                wait = AGAIN;
            }
        }
        tokio::select! {
            changed = edited.changed() => changed.context("the watch of policies ended")?,
            () = tls.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
        // Many policies may be written at once.
        tokio::time::sleep(TOGETHER).await;
    }
}

/// Keeps the APIService as it should be from when the leader can answer, for ever. A refusal is logged and
/// tried again.
pub async fn keep_read_api(
    client: Client,
    settings: RunSettings,
    mut tls: TlsSource,
    known: FrontProxySource,
) {
    let leader = ReadService::leader(&settings.namespace, &settings.name);
    // Earlier the leader does not listen, and an APIService without a server stops the deletion of
    // namespaces.
    known.loaded().await;
    loop {
        let mut wait = COMPARE;
        if let Some(ca) = tls.ca_bundle()
            && let Err(error) = register(&client, &leader, &ca).await
        {
            tracing::warn!(
                error = tls::words(&error),
                "failed to update the APIService; profiles cannot be read through kubectl"
            );
            wait = AGAIN;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = tls.changed() => {}
        }
    }
}

/// Lets the webhook's replicas answer for the read API before this leader stops.
pub async fn leave(client: Client, settings: RunSettings) {
    let leader = ReadService::leader(&settings.namespace, &settings.name);
    let standby = ReadService::standby(&settings.namespace, &settings.name);
    match tokio::time::timeout(HAND_OVER, hand_over(&client, &leader, &standby)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(
                error = tls::words(&error),
                "failed to hand over the read API; the webhook replicas will take over"
            );
        }
        Err(_) => {
            tracing::warn!("timeout while handing over the read API; the webhook replicas will take over")
        }
    }
}

/// When the operator's own namespace is deleted without `helm uninstall`, takes away what would outlive it
/// and hurt: an APIService that nobody serves blocks the deletion of every namespace, this one first.
///
/// # Errors
/// When the watch of namespaces ended.
pub async fn leave_with_namespace(
    client: Client,
    settings: RunSettings,
    namespaces: Cache<PartialObjectMeta<Namespace>>,
    mut changed: watch::Receiver<()>,
) -> anyhow::Result<()> {
    let is_deleted = || {
        let own = namespaces.get("", &settings.namespace);
        own.is_some_and(|n| n.metadata.deletion_timestamp.is_some())
    };
    loop {
        changed.mark_unchanged();
        if !is_deleted() {
            changed.changed().await.context("the watch of namespaces ended")?;
            continue;
        }
        let services = Api::<APIService>::all(client.clone());
        let webhooks = Api::<MutatingWebhookConfiguration>::all(client.clone());
        let params = DeleteParams::default();
        let gone = (
            services.delete(&format!("{VERSION}.{DATA_GROUP}"), &params).await.is_ok(),
            webhooks.delete(&settings.name, &params).await.is_ok(),
        );
        tracing::warn!(
            apiservice = gone.0,
            webhooks = gone.1,
            "the operator's namespace is terminating; deleted the APIService and webhooks"
        );
        // Somebody may make them again for as long as the namespace is there.
        tokio::time::sleep(WHILE_DELETED).await;
    }
}

/// Looks at the certificates again before any of them comes near its end, for ever.
pub async fn renew_certificates(
    client: Client,
    settings: RunSettings,
    (names, mut held): (CertificateNames, tls::Held),
    first: Duration,
) {
    let mut wait = first;
    loop {
        tokio::time::sleep(wait).await;
        let now = Timestamp::now();
        let ensured = tls::ensure_certificates(&client, &settings.namespace, &names, &mut held, now).await;
        wait = match ensured {
            Ok(ensured) => ensured.recheck,
            Err(error) => {
                tracing::error!(
                    %error,
                    "failed to renew certificates; retrying in a minute"
                );
                Duration::from_secs(60)
            }
        };
    }
}

/// Tells agents of a new CA as soon as there is one, for ever.
pub async fn follow_ca(fleet: Fleet, mut tls: TlsSource) {
    loop {
        if let Some(ca) = tls.ca_bundle() {
            fleet.set_ca_bundle(&ca);
        }
        tls.changed().await;
    }
}

/// Publishes the CA for agents of nodes, whose pods the chart makes before there is one, for ever. A refusal is logged
/// and tried again.
pub async fn publish_ca(client: Client, settings: RunSettings, mut tls: TlsSource) {
    let name = format!("{}-ca-bundle", settings.name);
    let maps = Api::<ConfigMap>::namespaced(client, &settings.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    loop {
        let mut wait = COMPARE;
        if let Some(ca) = tls.ca_bundle() {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": &*ca}});
            if let Err(error) = maps.patch(&name, &params, &Patch::Apply(&map)).await {
                tracing::warn!(
                    error = tls::words(&error),
                    "failed to publish the CA; agents of nodes do not start without it"
                );
                wait = AGAIN;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = tls.changed() => {}
        }
    }
}
