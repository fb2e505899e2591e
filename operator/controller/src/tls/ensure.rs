//! How are the certificates in the Secrets created and renewed?
//!
//! One pass reads both Secrets, asks [`super::plan`] and writes at most each of them once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::store::{BUNDLE, Data, Store};
use super::{TlsError, parse, words};

/// Maximum number of retries after a conflict.
const TRIES: usize = 5;
/// Two reads a minute, to notice deleted Secrets.
const RECHECK: Duration = Duration::from_secs(60);

/// Names of the Secrets and of the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames {
    /// Secret with the CA (`ca.crt`, `ca.key`, `bundle.crt`) and the key of the tickets (`ticket.key`); the
    /// leader's alone.
    pub ca_secret: String,
    /// Secret with the serving certificate: `tls.crt`, `tls.key`, `ca.crt` (the bundle).
    pub tls_secret: String,
    /// DNS names of the leaf.
    pub dns_names: Vec<String>,
    /// False if `tls_secret` is managed externally (cert-manager); then only the key of the tickets is
    /// managed.
    pub managed: bool,
}

impl CertificateNames {
    /// The names of an installation called `fullname` (normally `fleetprof`) in `namespace`, with
    /// certificates managed by the operator.
    #[must_use]
    pub fn of(fullname: &str, namespace: &str) -> Self {
        let service = |part: &str| format!("{fullname}-{part}.{namespace}.svc");
        let mut dns_names: Vec<String> = ["alerts", "leader", "webhook"]
            .into_iter()
            .map(service)
            .flat_map(|name| [format!("{name}.cluster.local"), name])
            .collect();
        dns_names.sort();
        Self {
            ca_secret: format!("{fullname}-ca"),
            tls_secret: format!("{fullname}-tls"),
            dns_names,
            managed: true,
        }
    }

    /// The same with an externally managed `tls_secret`.
    #[must_use]
    pub fn with_existing(mut self, tls_secret: &str) -> Self {
        tls_secret.clone_into(&mut self.tls_secret);
        self.managed = false;
        self
    }
}

/// The result of a pass.
#[derive(Clone)]
pub struct Ensured {
    /// The bundle for `caBundle` fields, PEM.
    pub ca_bundle: Arc<str>,
    /// Key that signs the tickets and credentials of attached agents.
    pub ticket_key: [u8; 32],
    /// Whether this pass wrote anything.
    pub changed: bool,
    /// Latest time of the next pass.
    pub recheck: Duration,
}

impl std::fmt::Debug for Ensured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ensured")
            .field("changed", &self.changed)
            .field("recheck", &self.recheck)
            .finish_non_exhaustive()
    }
}

/// What this process held last; it outlives Secrets that are deleted or spoilt.
#[derive(Default)]
pub struct Held(Store);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

/// Creates missing certificates and renews those that have used up two thirds of their life. Replicas may
/// call it concurrently: Secrets are created, or replaced at the resource version that was read, and
/// conflicts are retried. What the Secrets have lost is restored from `held`.
///
/// # Errors If the API server rejects a request, or a certificate cannot be created.
pub async fn ensure_certificates(
    client: &Client,
    namespace: &str,
    names: &CertificateNames,
    held: &mut Held,
    now: Timestamp,
) -> Result<Ensured, TlsError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for _ in 0..TRIES {
        let found =
            Found { ca: read(&api, &names.ca_secret).await?, tls: read(&api, &names.tls_secret).await? };
        let before = Store { ca: data(&found.ca), tls: data(&found.tls) };
        let store = after(&before, names, held, now)?;
        // The CA first: no client would trust a leaf whose CA was lost.
        let written = (store.ca == before.ca
            || write(&api, &names.ca_secret, "Opaque", found.ca, &store.ca).await?)
            && (store.tls == before.tls
                || write(&api, &names.tls_secret, "kubernetes.io/tls", found.tls, &store.tls).await?);
        if written {
            let ensured = ensured(&store, store != before);
            held.0 = store;
            return ensured;
        }
    }
    Err(TlsError::Contended(format!("{namespace}/{}", names.tls_secret)))
}

/// What the Secrets should hold.
fn after(before: &Store, names: &CertificateNames, held: &Held, now: Timestamp) -> Result<Store, TlsError> {
    let mut store = before.clone();
    if names.managed {
        store.restore(&held.0);
        store.settle(&names.dns_names, now)?;
    } else {
        store.restore_ticket_key(&held.0);
        if store.ticket_key().is_none() {
            store.make_ticket_key()?;
        }
    }
    Ok(store)
}

struct Found {
    ca: Option<Secret>,
    tls: Option<Secret>,
}

fn ensured(store: &Store, changed: bool) -> Result<Ensured, TlsError> {
    let bundle = store.tls.get(BUNDLE).ok_or_else(|| parse::unusable("ca.crt", "missing in the Secret"))?;
    parse::certificates("ca.crt", bundle)?;
    let ca_bundle = std::str::from_utf8(bundle).map_err(|e| parse::unusable("ca.crt", e))?.into();
    let ticket_key = store.ticket_key().ok_or(TlsError::Random)?;
    Ok(Ensured { ca_bundle, ticket_key, changed, recheck: RECHECK })
}

async fn read(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, TlsError> {
    api.get_opt(name).await.map_err(|e| failed(name, "read", e))
}

fn data(secret: &Option<Secret>) -> Data {
    secret.iter().filter_map(|s| s.data.as_ref()).flatten().map(|(k, v)| (k.clone(), v.0.clone())).collect()
}

/// False if another replica was faster.
async fn write(
    api: &Api<Secret>,
    name: &str,
    kind: &str,
    found: Option<Secret>,
    data: &Data,
) -> Result<bool, TlsError> {
    let data = data.iter().map(|(k, v)| (k.clone(), ByteString(v.clone()))).collect();
    let parameters = PostParams {
        field_manager: Some(fleetprof_crds::names::FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    let (verb, outcome) = match found {
        Some(secret) => {
            let secret = Secret { data: Some(data), ..secret };
            ("replaced", api.replace(name, &parameters, &secret).await)
        }
        None => {
            let labels =
                BTreeMap::from([("app.kubernetes.io/managed-by".into(), "fleetprof-operator".into())]);
            let metadata =
                ObjectMeta { name: Some(name.into()), labels: Some(labels), ..ObjectMeta::default() };
            let secret = Secret { metadata, type_: Some(kind.into()), data: Some(data), ..Secret::default() };
            ("created", api.create(&parameters, &secret).await)
        }
    };
    match outcome {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(failed(name, verb, error)),
    }
}

fn failed(secret: &str, verb: &'static str, error: kube::Error) -> TlsError {
    TlsError::Api { secret: secret.into(), verb, why: words(&error) }
}
