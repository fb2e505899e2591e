//! The read API as a real API server sees it: TLS, a Service without pods, an APIService.

use std::net::SocketAddr;

use axum::Router;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::data_api::registration::ReadService;
use crate::data_api::{
    self, AccessReviews, DataApi, DataApiMetrics, FrontProxySource, SessionsByApi, router,
};
use crate::results::Results;
use crate::server::{ConnectionMetrics, Limits};
use crate::tls::{ClientAuth, TlsMaterial, TlsSource, serve};

pub(super) const NAMESPACE: &str = "fleetprof-data-api-test";
const LEADER: &str = "fleetprof-leader";
const STANDBY: &str = "fleetprof-webhook";
const API_SERVICE: &str = "v1alpha1.data.fleetprof.dev";

/// A certificate for both Services: chain, key and CA.
pub(super) struct Certificates {
    chain: String,
    key: String,
    pub(super) ca: String,
}

impl Certificates {
    pub(super) fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = [LEADER, STANDBY].map(|name| format!("{name}.{NAMESPACE}.svc")).to_vec();
        let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        Self { chain: leaf.pem(), key: key.serialize_pem(), ca: ca_pem }
    }
}

/// A server that runs until it is dropped.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    name: &'static str,
    _stop: oneshot::Sender<()>,
}

impl Served {
    /// The Service before it.
    pub(super) fn service(&self) -> ReadService {
        ReadService { namespace: NAMESPACE.into(), name: self.name.into(), port: self.address.port() }
    }
}

/// Serves the read API on this machine with the cluster's own front proxy, authorizer and sessions.
pub(super) async fn leader(
    client: &Client,
    results: Results,
    address: SocketAddr,
    certificates: &Certificates,
) -> Served {
    let front_proxy = FrontProxySource::watch(client.clone());
    let client_auth = front_proxy.client_auth().required();
    let api = router(DataApi {
        front_proxy,
        authorize: std::sync::Arc::new(AccessReviews::new(client.clone())),
        sessions: std::sync::Arc::new(SessionsByApi::new(client.clone())),
        results,
        metrics: DataApiMetrics::default(),
    });
    start(LEADER, address, api, Some(client_auth), certificates).await
}

/// Serves what is left of it without a leader.
pub(super) async fn standby(address: SocketAddr, certificates: &Certificates) -> Served {
    start(STANDBY, address, data_api::standby_router(), None, certificates).await
}

async fn start(
    name: &'static str,
    address: SocketAddr,
    api: Router,
    auth: Option<ClientAuth>,
    certificates: &Certificates,
) -> Served {
    let (feed, tls) = TlsSource::channel();
    let Certificates { chain, key, ca } = certificates;
    feed.replace(TlsMaterial::from_pem(chain.as_bytes(), key.as_bytes(), ca.as_bytes()).unwrap());
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let _feed = feed;
        let shutdown = async {
            let _ = stopped.await;
        };
        serve(
            listener,
            tls,
            api,
            auth,
            Limits::new("read_api", (64, 64), ConnectionMetrics::default()),
            shutdown,
        )
        .await
        .unwrap();
    });
    Served { address, name, _stop: stop }
}

/// Makes or changes an object of a known kind.
pub(super) async fn apply<K>(api: Api<K>, name: &str, object: Value)
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    api.patch(name, &PatchParams::apply("fleetprof-test").force(), &Patch::Apply(object)).await.unwrap();
}

/// Makes a Service without pods for a server.
pub(super) async fn expose(client: &Client, served: &Served) {
    let (name, port) =
        (served.name, json!([{"name": "data", "port": served.address.port(), "protocol": "TCP"}]));
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": port}});
    apply(Api::<Service>::namespaced(client.clone(), NAMESPACE), name, service).await;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": port,
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": [served.address.ip().to_string()], "conditions": {"ready": true}}],
    });
    apply(Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE), name, slice).await;
}

/// Makes the APIService as the chart does: it names nobody.
pub(super) async fn install(client: &Client) {
    let object = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": API_SERVICE},
        "spec": {"group": "data.fleetprof.dev", "version": "v1alpha1", "groupPriorityMinimum": 1000, "versionPriority": 15},
    });
    apply(Api::<APIService>::all(client.clone()), API_SERVICE, object).await;
}

/// Removes the registration.
pub(super) async fn uninstall(client: &Client) {
    let _ = Api::<APIService>::all(client.clone()).delete(API_SERVICE, &DeleteParams::default()).await;
}

/// `True`, `False` or `Unknown`, and why.
pub(super) async fn availability(client: &Client) -> (String, String) {
    let service = Api::<APIService>::all(client.clone()).get(API_SERVICE).await.unwrap();
    let conditions = service.status.and_then(|status| status.conditions).unwrap_or_default();
    let found = conditions
        .into_iter()
        .find(|c| c.type_ == "Available")
        .map(|c| (c.status, c.message.unwrap_or_default()));
    found.unwrap_or_else(|| ("Unknown".to_owned(), String::new()))
}

/// Whether the API server has an aggregation layer at all.
pub(super) async fn has_front_proxy(client: &Client) -> bool {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let config = api.get_opt("extension-apiserver-authentication").await.unwrap();
    config
        .and_then(|config| config.data)
        .is_some_and(|data| data.contains_key("requestheader-client-ca-file"))
}
