//! Which servers are attacked, with which limits? Those of the containers that the chart makes.

use std::sync::Arc;

use bytes::Bytes;
use fleetprof_core::agent::AgentId;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::ProfileSession;
use fleetprof_crds::wire::SliceId;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ConfigMap;
use prometheus_client::registry::Registry;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::data_api::{
    self, Access, Authorize, DataApi, DataApiMetrics, FrontProxy, FrontProxySource, Picks, Rollouts,
    Sessions, User,
};
use crate::gateway::{
    Fleet, GatewayConfig, GatewayMetrics, GatewayState, Identify, IdentifyError, PodId, ServedNamespaces,
    SinkError, SliceSink, Stored, system_clock,
};
use crate::metrics::Metrics;
use crate::results::tests::fixtures;
use crate::server::{ConnectionMetrics, Limits};
use crate::tickets::Tickets;
use crate::tls::{ClientAuth, TlsMaterial, TlsSource, serve};
use crate::triggers::credentials::Credentials;
use crate::triggers::receiver::{self, Receiver};
use crate::triggers::{Arrival, Memory, Nowhere, Recheck, Rechecked};
use crate::watched::Pods;
use crate::webhook::tests::Webhook;
use crate::{gateway, listeners};

/// A server that is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Gateway,
    ReadApi,
    Webhook,
    Alerts,
}

/// What a client needs to know, as one line of the server's output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) port: u16,
    pub(super) ca: String,
    /// Certificate and key of the front proxy.
    pub(super) client: (String, String),
}

const WELCOME: &str = "welcome: ";

impl Welcome {
    pub(super) fn read(line: &str) -> Option<Self> {
        line.split_once(WELCOME).and_then(|(_, json)| serde_json::from_str(json).ok())
    }
}

impl Victim {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::ReadApi => "read API",
            Self::Webhook => "webhook",
            Self::Alerts => "alert receiver",
        }
    }

    /// Memory limit of the container.
    pub(super) fn limit(self) -> u64 {
        if self == Self::Webhook { 128 << 20 } else { 512 << 20 }
    }

    /// What callers may make it hold: half of the limit for connections, and bodies.
    pub(super) fn planned(self) -> u64 {
        let bodies = if self == Self::Webhook { 24 << 20 } else { 17 << 20 };
        self.limit() / 2 + bodies
    }

    fn limits(self) -> Limits {
        let metrics = ConnectionMetrics::default();
        match self {
            Self::Gateway => listeners::gateway(metrics, crate::server::raise_files(), Some(self.limit())),
            Self::ReadApi => listeners::read_api(metrics),
            Self::Webhook => listeners::webhook(metrics),
            Self::Alerts => listeners::alerts(metrics),
        }
    }

    /// Serves until the process is killed, for two minutes at most.
    pub(super) async fn serve(self) {
        let (authority, tls) = authority();
        let listener = crate::server::bind(0).unwrap();
        let welcome = Welcome { port: listener.local_addr().unwrap().port(), ..authority };
        let folder = tempfile::tempdir().unwrap();
        let (router, auth) = match self {
            Self::Gateway => (gateway_router(), None),
            Self::ReadApi => {
                let (_feed, roots) = roots(&welcome);
                let auth = ClientAuth::new(roots).required();
                std::mem::forget(_feed);
                (read_api_router(&welcome, folder.path()).await, Some(auth))
            }
            Self::Webhook => (Webhook::new().router(), None),
            Self::Alerts => (alerts_router(), None),
        };
        println!("{WELCOME}{}", serde_json::to_string(&welcome).unwrap());
        let ended = tokio::time::sleep(std::time::Duration::from_secs(120));
        serve(listener, tls, router, auth, self.limits(), ended).await.unwrap();
    }
}

/// A CA with a certificate for the server, and one for the front proxy.
fn authority() -> (Welcome, TlsSource) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let (feed, tls) = TlsSource::channel();
    feed.replace(TlsMaterial::from_pem(pem.as_bytes(), key.as_bytes(), pem.as_bytes()).unwrap());
    std::mem::forget(feed);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let front_proxy = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let client_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "front-proxy-client");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let client = params.signed_by(&client_key, &issuer).unwrap().pem();
    // The clients find the CA of the front proxy behind the server's certificate.
    let ca = format!("{pem}{front_proxy}");
    (Welcome { port: 0, ca, client: (client, client_key.serialize_pem()) }, tls)
}

fn front_proxy_ca(welcome: &Welcome) -> CertificateDer<'static> {
    CertificateDer::pem_slice_iter(welcome.ca.as_bytes()).nth(1).unwrap().unwrap()
}

type Roots = Vec<CertificateDer<'static>>;

fn roots(welcome: &Welcome) -> (watch::Sender<Roots>, watch::Receiver<Roots>) {
    watch::channel(vec![front_proxy_ca(welcome)])
}

fn gateway_router() -> axum::Router {
    let fleet = Fleet::new();
    fleet.set_synced(true, jiff::Timestamp::now());
    gateway::router(GatewayState::new(GatewayConfig {
        fleet: fleet.clone(),
        identify: Arc::new(Tokens),
        tickets: Arc::new(Tickets::new(&[1; 32])),
        pods: Arc::new(Pods::default()),
        nodes: ServedNamespaces::default(),
        sink: Arc::new(Discard),
        metrics: GatewayMetrics::register(&mut Registry::default(), &fleet),
        clock: system_clock(),
    }))
}

/// A token that begins with `good` is a pod's.
struct Tokens;

impl Identify for Tokens {
    fn identify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<AgentId, IdentifyError>> {
        async move {
            match token.strip_prefix("good") {
                Some(uid) => {
                    let pod = PodId { namespace: "shop".into(), name: "a".into(), uid: uid.into() };
                    Ok(AgentId::Pod(pod.into()))
                }
                None => Err(IdentifyError::Refused("The token is invalid.".into())),
            }
        }
        .boxed()
    }

    fn is_there(&self, _: &PodId) -> bool {
        true
    }
}

struct Discard;

impl SliceSink for Discard {
    fn put_slice<'a>(
        &'a self,
        _: &'a CaptureScope,
        _: SliceId,
        _: Bytes,
        _: [u8; 32],
    ) -> BoxFuture<'a, Result<Stored, SinkError>> {
        async { Ok(Stored { duplicate: false }) }.boxed()
    }
}

async fn read_api_router(welcome: &Welcome, volume: &std::path::Path) -> axum::Router {
    let pem = welcome.ca.find("-----END CERTIFICATE-----\n").map(|end| &welcome.ca[end + 26..]).unwrap();
    let data = [
        ("requestheader-client-ca-file", pem.to_owned()),
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#.into()),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#.into()),
    ];
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let (feed, front_proxy) = FrontProxySource::channel();
    feed.replace(FrontProxy::read(&ConfigMap { data: Some(data), ..ConfigMap::default() }));
    std::mem::forget(feed);
    data_api::router(DataApi {
        front_proxy,
        authorize: Arc::new(Everybody),
        sessions: Arc::new(NoSessions),
        results: fixtures::open(volume).await,
        metrics: DataApiMetrics::default(),
    })
}

struct Everybody;

impl Authorize for Everybody {
    fn allows<'a>(&'a self, _: &'a User, _: &'a Access) -> BoxFuture<'a, Result<bool, String>> {
        async { Ok(true) }.boxed()
    }
}

struct NoSessions;

impl Sessions for NoSessions {
    fn session<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<ProfileSession>, String>> {
        async { Ok(None) }.boxed()
    }

    fn rollouts<'a>(&'a self, _: &'a str, _: Picks<'a>) -> BoxFuture<'a, Rollouts> {
        async { Ok(Vec::new()) }.boxed()
    }
}

fn alerts_router() -> axum::Router {
    struct Fine;
    impl Recheck for Fine {
        fn recheck(&self, arrival: Arrival) -> BoxFuture<'_, Rechecked> {
            Box::pin(std::future::ready(arrival.begin()))
        }
    }
    receiver::router(Receiver {
        credentials: Credentials::fixed("secret"),
        memory: Memory::default(),
        recheck: Arc::new(Fine),
        nowhere: Nowhere {
            events: None,
            namespace: "fleetprof".into(),
            deployment: "fleetprof-operator".into(),
            metrics: Metrics::default(),
        },
        metrics: Metrics::default(),
    })
}
