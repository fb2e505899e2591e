//! Which Service answers for `data.fleetprof.dev`: none, the leader's, or the standby?
//!
//! ```text
//! chart: spec.service is absent, the API server answers 404 itself
//!    │ register (the leader, once it serves)
//!    ▼
//! leader: spec.service names it ──── hand_over (the leader as it stops; the webhook's ──► standby: spec.service names
//!    ▲                               replicas when nobody renews the leader's Lease)      the webhook's replicas, which
//!    └─────────────────────────────── register (the next leader) ◄─────────────────────── serve only the documents
//! ```
//! An APIService whose server is down makes discovery fail, and while discovery fails the namespace
//! controller finishes the deletion of **no** namespace in the whole cluster. A read API that is down must
//! not break more than the read API, so some Service always answers for it. Removing `spec.service` again
//! does not help: API servers keep asking the server they were told of first (seen with 1.35) until they are
//! told of another.

use std::time::{Duration, Instant};

use base64::Engine;
use fleetprof_crds::names::{DATA_GROUP, FIELD_MANAGER, VERSION};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tracing::{info, warn};

/// How often the leader's Lease is read.
const EVERY: Duration = Duration::from_secs(5);
/// A Lease that has not been renewed for this long has no leader: a third more than its own duration.
const ABANDONED: Duration = Duration::from_secs(20);

/// A Service in front of the read API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadService {
    /// Its namespace.
    pub namespace: String,
    /// Its name, such as `fleetprof-leader`.
    pub name: String,
    /// Its port.
    pub port: u16,
}

/// Port of the read API at both Services of the chart.
const SERVICE_PORT: u16 = 8444;

impl ReadService {
    /// The Service in front of the leader of the installation `fullname`.
    #[must_use]
    pub fn leader(namespace: &str, fullname: &str) -> Self {
        Self { namespace: namespace.into(), name: format!("{fullname}-leader"), port: SERVICE_PORT }
    }

    /// The Service in front of [`super::standby_router`] of the installation `fullname`.
    #[must_use]
    pub fn standby(namespace: &str, fullname: &str) -> Self {
        Self { namespace: namespace.into(), name: format!("{fullname}-webhook"), port: SERVICE_PORT }
    }
}

fn api_service() -> String {
    format!("{VERSION}.{DATA_GROUP}")
}

/// Makes the API server send requests for the read API to `service`, whose certificate `ca` (PEM) signed.
/// Writes only what differs.
///
/// # Errors
/// The API server refuses; needs `get` and `patch` on this APIService. Not `create`: an APIService that an
/// uninstall deleted must stay deleted.
pub async fn register(client: &Client, service: &ReadService, ca: &str) -> kube::Result<()> {
    let api = Api::<APIService>::all(client.clone());
    if api.get_opt(&api_service()).await?.is_some_and(|found| registered(&found, service, ca)) {
        return Ok(());
    }
    let body = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": api_service()},
        "spec": {
            "service": {"namespace": service.namespace, "name": service.name, "port": service.port},
            "caBundle": base64::engine::general_purpose::STANDARD.encode(ca),
        },
    });
    api.patch(&api_service(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(body)).await?;
    info!(service = service.name, "registered the read API");
    Ok(())
}

fn registered(found: &APIService, service: &ReadService, ca: &str) -> bool {
    let Some(spec) = &found.spec else { return false };
    names(spec, service)
        && spec.service.as_ref().is_some_and(|s| s.port == Some(service.port.into()))
        && spec.ca_bundle.as_ref().is_some_and(|bundle| bundle.0 == ca.as_bytes())
}

fn names(spec: &APIServiceSpec, service: &ReadService) -> bool {
    spec.service.as_ref().is_some_and(|s| {
        s.namespace.as_ref() == Some(&service.namespace) && s.name.as_ref() == Some(&service.name)
    })
}

/// Makes `standby` answer instead of `leader`. Does nothing where another Service is registered, or none.
/// The same CA signed both certificates.
///
/// # Errors
/// The API server refuses; needs `get` and `patch` on this APIService.
pub async fn hand_over(client: &Client, leader: &ReadService, standby: &ReadService) -> kube::Result<()> {
    let api = Api::<APIService>::all(client.clone());
    if !api
        .get_opt(&api_service())
        .await?
        .and_then(|found| found.spec)
        .is_some_and(|spec| names(&spec, leader))
    {
        return Ok(());
    }
    let service = json!({"namespace": standby.namespace, "name": standby.name, "port": standby.port});
    api.patch(&api_service(), &PatchParams::default(), &Patch::Merge(json!({"spec": {"service": service}})))
        .await?;
    info!(
        service = standby.name,
        "no leader serves the read API; the standby serves its discovery documents, so that namespaces can be \
         deleted"
    );
    Ok(())
}

/// Hands over to `standby` whenever the Lease `lease` in the leader's namespace is no longer renewed; never
/// ends. Needs `get` on the Lease, and what [`hand_over`] needs.
pub async fn stand_by(client: Client, lease: String, leader: ReadService, standby: ReadService) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &leader.namespace);
    let mut watch = LeaseWatch::default();
    loop {
        tokio::time::sleep(EVERY).await;
        let held = match leases.get_opt(&lease).await {
            Ok(found) => found
                .and_then(|lease| lease.spec)
                .map(|spec| format!("{:?} {:?}", spec.holder_identity, spec.renew_time)),
            Err(error) => {
                // An unreadable Lease says nothing about whether it is renewed.
                warn!(%error, "failed to read the leader's Lease");
                watch = LeaseWatch::default();
                continue;
            }
        };
        if watch.abandoned(held, Instant::now())
            && let Err(error) = hand_over(&client, &leader, &standby).await
        {
            warn!(%error, "no leader serves the read API, and registering the standby failed; until one \
                           succeeds, no namespace can be deleted");
        }
    }
}

/// Recognises an abandoned Lease by its not changing: the times in it are of other machines' clocks.
#[derive(Debug, Default)]
struct LeaseWatch {
    seen: Option<(Option<String>, Instant)>,
}

impl LeaseWatch {
    /// Whether the Lease has said the same for [`ABANDONED`].
    fn abandoned(&mut self, held: Option<String>, now: Instant) -> bool {
        match &self.seen {
            Some((before, since)) if *before == held => now.duration_since(*since) >= ABANDONED,
            _ => {
                self.seen = Some((held, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let leader = ReadService::leader("fp", "fleetprof");
        let service = json!({"namespace": "fp", "name": "fleetprof-leader", "port": 8444});
        let standby = json!({"namespace": "fp", "name": "fleetprof-webhook", "port": 8444});
        let other_port = json!({"namespace": "fp", "name": "fleetprof-leader", "port": 443});
        let ca = base64::engine::general_purpose::STANDARD.encode("CA");
        for (spec, same) in [
            (json!({"service": service, "caBundle": ca}), true),
            (json!({"service": service}), false),
            (json!({"service": service, "caBundle": "b2xk"}), false),
            (json!({"service": standby, "caBundle": ca}), false),
            (json!({"service": other_port, "caBundle": ca}), false),
            (json!({}), false),
        ] {
            let mut whole = json!({"groupPriorityMinimum": 1000, "versionPriority": 15});
            whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let found: APIService = serde_json::from_value(json!({"metadata": {}, "spec": whole})).unwrap();
            assert_eq!(registered(&found, &leader, "CA"), same, "{spec}");
        }
    }

    #[test]
    fn a_lease_is_abandoned_when_it_stands_still() {
        let begun = Instant::now();
        let mut watch = LeaseWatch::default();
        let cases: [(u64, Option<&str>, bool); 9] = [
            (0, Some("a 1"), false),
            (19, Some("a 1"), false),
            (25, Some("a 2"), false),
            (44, Some("a 2"), false),
            (45, Some("a 2"), true),
            (60, Some("b 3"), false),
            (65, None, false),
            (85, None, true),
            (96, Some("b 3"), false),
        ];
        for (second, held, abandoned) in cases {
            let got = watch.abandoned(held.map(Into::into), begun + Duration::from_secs(second));
            assert_eq!(got, abandoned, "second {second}");
        }
    }
}
