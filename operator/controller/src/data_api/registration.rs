//! Who answers for `data.fleetprof.dev` in this cluster: the API server itself, the leader, or an understudy?
//!
//! ```text
//! chart: spec.service is absent, the API server answers 404 itself
//!    │ register (the leader, once it serves)
//!    ▼
//! leader: spec.service names it ──── hand_over (the leader as it stops; the webhook's ──► understudy: spec.service names
//!    ▲                               replicas when nobody renews the leader's Lease)      the webhook's replicas, which
//!    └─────────────────────────────── register (the next leader) ◄─────────────────────── know the documents alone
//! ```
//! An APIService whose server is down makes discovery fail, and while discovery fails the namespace
//! controller finishes the deletion of **no** namespace in the whole cluster. A read API that is gone must
//! cost nobody more than the read API, so somebody always answers for it. Taking `spec.service` away again
//! would not do: API servers go on asking the server that they were told of first (seen with 1.35), until
//! they are told of another.

use std::time::{Duration, Instant};

use base64::Engine;
use fleetprof_crds::names::{DATA_GROUP, FIELD_MANAGER, VERSION};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tracing::{info, warn};

/// How often the leader's lease is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// A lease that nobody renewed for so long has no leader: a third more than its own duration.
const ABANDONED: Duration = Duration::from_secs(20);

/// A Service behind which the read API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadService {
    /// Its namespace.
    pub namespace: String,
    /// Its name, such as `fleetprof-leader`.
    pub name: String,
    /// Its port.
    pub port: u16,
}

/// Port of the read API at both Services, as the chart makes them.
const SERVICE_PORT: u16 = 8444;

impl ReadService {
    /// The Service of the installation `fullname` behind which its leader is.
    #[must_use]
    pub fn leader(namespace: &str, fullname: &str) -> Self {
        Self { namespace: namespace.into(), name: format!("{fullname}-leader"), port: SERVICE_PORT }
    }

    /// The Service of the installation `fullname` behind which [`super::understudy`] is.
    #[must_use]
    pub fn understudy(namespace: &str, fullname: &str) -> Self {
        Self { namespace: namespace.into(), name: format!("{fullname}-webhook"), port: SERVICE_PORT }
    }
}

fn api_service() -> String {
    format!("{VERSION}.{DATA_GROUP}")
}

/// Lets the API server send requests for the read API to `service`, whose certificate is of `ca` (PEM).
/// Writes only what differs.
///
/// # Errors
/// The API server refuses; needs `get` and `patch` on this APIService, and no `create`: an APIService that an
/// uninstall deleted is not made again.
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
    info!(service = service.name, "the read API is registered");
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

/// Lets `understudy` answer instead of `leader`. Nothing happens where somebody else is registered, or
/// nobody. Both have certificates of the same CA.
///
/// # Errors
/// The API server refuses; needs `get` and `patch` on this APIService.
pub async fn hand_over(client: &Client, leader: &ReadService, understudy: &ReadService) -> kube::Result<()> {
    let api = Api::<APIService>::all(client.clone());
    if !api
        .get_opt(&api_service())
        .await?
        .and_then(|found| found.spec)
        .is_some_and(|spec| names(&spec, leader))
    {
        return Ok(());
    }
    let service =
        json!({"namespace": understudy.namespace, "name": understudy.name, "port": understudy.port});
    api.patch(&api_service(), &PatchParams::default(), &Patch::Merge(json!({"spec": {"service": service}})))
        .await?;
    info!(
        service = understudy.name,
        "no leader serves the read API; this Service answers with its documents, so that namespaces can be \
         deleted"
    );
    Ok(())
}

/// Hands over to `understudy` whenever nobody renews the Lease `lease` in the leader's namespace, for ever.
/// For replicas that do not lead; needs `get` on the Lease, and what [`hand_over`] needs.
pub async fn stand_by(client: Client, lease: String, leader: ReadService, understudy: ReadService) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &leader.namespace);
    let mut watch = LeaseWatch::default();
    loop {
        tokio::time::sleep(EVERY).await;
        let held = match leases.get_opt(&lease).await {
            Ok(found) => found
                .and_then(|lease| lease.spec)
                .map(|spec| format!("{:?} {:?}", spec.holder_identity, spec.renew_time)),
            Err(error) => {
                // Who cannot see the lease cannot tell that it is abandoned.
                warn!(%error, "the leader's lease cannot be read");
                watch = LeaseWatch::default();
                continue;
            }
        };
        if watch.abandoned(held, Instant::now())
            && let Err(error) = hand_over(&client, &leader, &understudy).await
        {
            warn!(%error, "no leader serves the read API, and nobody can take over: while it is so, no \
                           namespace can be deleted");
        }
    }
}

/// Tells an abandoned lease by its standing still. The times in it are of other machines' clocks.
#[derive(Debug, Default)]
struct LeaseWatch {
    seen: Option<(Option<String>, Instant)>,
}

impl LeaseWatch {
    /// Whether what the lease says has not changed for [`ABANDONED`].
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
        let understudy = json!({"namespace": "fp", "name": "fleetprof-webhook", "port": 8444});
        let other_port = json!({"namespace": "fp", "name": "fleetprof-leader", "port": 443});
        let ca = base64::engine::general_purpose::STANDARD.encode("CA");
        for (spec, same) in [
            (json!({"service": service, "caBundle": ca}), true),
            (json!({"service": service}), false),
            (json!({"service": service, "caBundle": "b2xk"}), false),
            (json!({"service": understudy, "caBundle": ca}), false),
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
