//! What must the cluster know of our certificates and policies? Webhooks and APIService carry the CA;
//! webhooks are as narrow as the policies allow; the APIService names the leader only while there is one.

use std::time::Duration;

use fleetprof_crds::names::{DATA_GROUP, VERSION};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::DeleteParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use kube_runtime::reflector::{ObjectRef, Store};

use crate::data_api::FrontProxySource;
use crate::data_api::registration::{ReadService, hand_over, register};
use crate::gateway::Fleet;
use crate::settings::RunSettings;
use crate::tls::{self, CertificateNames, TlsSource};
use crate::watched::PolicyCaches;
use crate::webhook::registration;

/// How often it is looked whether policies or certificates changed what should be registered.
const EVERY: Duration = Duration::from_millis(500);
/// Every how many looks the cluster is compared as well: somebody else may have changed it.
const COMPARE: u32 = 60;
/// Delay before a failed registration is retried.
const AGAIN: Duration = Duration::from_secs(5);
/// How long handing over may take: what is left of the time to stop is for giving the lease back.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Keeps the webhooks as they should be, for ever. A refusal is logged and tried again.
pub async fn keep(
    client: Client,
    settings: RunSettings,
    tls: TlsSource,
    policies: PolicyCaches,
) -> anyhow::Result<()> {
    let mut last: Option<Vec<serde_json::Value>> = None;
    for look in 1u32.. {
        if let Some(ca) = tls.ca_bundle() {
            let names = registration::Names {
                fullname: settings.name.clone(),
                namespace: settings.namespace.clone(),
            };
            let wanted = registration::webhooks(policies.all().views().iter(), &ca, &names);
            if last.as_ref() != Some(&wanted) || look % COMPARE == 0 {
                match registration::apply(&client, &names, &wanted).await {
                    Ok(_) => last = Some(wanted),
                    Err(error) => tracing::warn!(
                        error = format!("{error:#}"),
                        "failed to register webhooks; pods start without an agent meanwhile"
                    ),
                }
            }
        }
        tokio::time::sleep(if last.is_some() { EVERY } else { EVERY * 4 }).await;
    }
    Ok(())
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
        let mut wait = EVERY * COMPARE;
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
pub async fn leave_with_namespace(
    client: Client,
    settings: RunSettings,
    namespaces: Store<PartialObjectMeta<Namespace>>,
) -> anyhow::Result<()> {
    let own = ObjectRef::new(&settings.namespace);
    loop {
        tokio::time::sleep(EVERY * 2).await;
        if namespaces.get(&own).is_none_or(|n| n.metadata.deletion_timestamp.is_none()) {
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
    }
}

/// Looks at the certificates again before any of them comes near its end, for ever.
pub async fn renew_certificates(
    client: Client,
    settings: RunSettings,
    names: CertificateNames,
    first: Duration,
) {
    let mut wait = first;
    loop {
        tokio::time::sleep(wait).await;
        wait = match tls::ensure_certificates(&client, &settings.namespace, &names, Timestamp::now()).await {
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
