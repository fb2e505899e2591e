//! A front proxy, sessions and rights for tests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::Bytes;
use fleetprof_core::capture::CaptureScope;
use fleetprof_crds::ProfileKind;
use fleetprof_crds::names::{REVISION_LABEL, SYMBOLS, WORKLOAD_ANNOTATION};
use fleetprof_crds::session_status::{Phase, ProfileSessionStatus, StoredProfile, TargetStatus};
use fleetprof_crds::wire::SliceId;
use fleetprof_crds::{ProfileSession, ProfileSessionSpec};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use rustls_pki_types::CertificateDer;
use tower::ServiceExt;

use crate::data_api::{
    Access, Authorize, DataApi, DataApiMetrics, FrontProxy, FrontProxySource, Picks, Rollouts, Sessions,
    User, router,
};
use crate::gateway::SliceSink;
use crate::results::tests::fixtures::{cpu, open, scope_of, slice, slice_of_processes, waiting_slice};
use crate::server::PeerInfo;
use crate::symbols::Symbols;

/// A certificate with this common name.
pub(in crate::data_api) fn certificate(common_name: &str) -> CertificateDer<'static> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    let key = rcgen::KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

/// The settings that kube-apiserver writes.
pub(in crate::data_api) fn front_proxy(allowed: &[&str]) -> FrontProxy {
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    let data = [
        ("requestheader-client-ca-file", ca),
        ("requestheader-allowed-names", serde_json::to_string(allowed).unwrap()),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#.into()),
        ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#.into()),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#.into()),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#.into()),
    ];
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    FrontProxy::read(&ConfigMap { data: Some(data), ..ConfigMap::default() })
}

pub(in crate::data_api) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(header) {
        headers.append(name, value);
    }
    headers
}

/// The session `shop/now` with these pods and samples.
pub(in crate::data_api) fn session(phase: Phase, targets: &[(&str, i64)]) -> ProfileSession {
    let spec: ProfileSessionSpec =
        serde_json::from_value(serde_json::json!({"target": {"pods": ["a"]}})).unwrap();
    let mut session = ProfileSession::new("now", spec);
    session.metadata.namespace = Some("shop".into());
    session.metadata.uid = Some("session-1".into());
    let target = |(pod, samples): &(&str, i64)| TargetStatus {
        pod: (*pod).into(),
        profiles: vec![StoredProfile {
            kind: ProfileKind::Cpu,
            uri: "k".into(),
            bytes: 1,
            samples: *samples,
            destinations: vec![],
            failed: vec![],
        }],
        ..TargetStatus::default()
    };
    let targets = targets.iter().map(target).collect();
    session.status = Some(ProfileSessionStatus { phase, targets, ..ProfileSessionStatus::default() });
    session
}

/// Says where the fixture's volume holds the profiles of a session.
fn place(session: &mut ProfileSession) {
    let uid = session.metadata.uid.clone().unwrap();
    for target in session.status.iter_mut().flat_map(|status| &mut status.targets) {
        for profile in &mut target.profiles {
            let (pod, kind) = (&target.pod, profile.kind);
            profile.uri = format!("prod/shop/Deployment-orders/2023-11-14/{uid}/{pod}_app_{kind}.pb.gz");
        }
    }
}

/// The ended session of that name, with these pods and samples.
fn named(name: &str, uid: &str, targets: &[(&str, i64)]) -> ProfileSession {
    let mut session = session(Phase::Succeeded, targets);
    session.metadata.name = Some(name.into());
    session.metadata.uid = Some(uid.into());
    place(&mut session);
    session
}

/// Makes it a session of a rollout, created at that second.
pub(in crate::data_api) fn rollout(session: &mut ProfileSession, revision: &str, created: i64) {
    session.labels_mut().insert(REVISION_LABEL.into(), revision.into());
    session.annotations_mut().insert(WORKLOAD_ANNOTATION.into(), "Deployment/orders".into());
    session.metadata.creation_timestamp = Some(Time(jiff::Timestamp::from_second(created).unwrap()));
}

/// Sessions by name, in any namespace.
pub(in crate::data_api) struct Table(pub(in crate::data_api) HashMap<&'static str, ProfileSession>);

impl Sessions for Table {
    fn session<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<ProfileSession>, String>> {
        async move {
            if name == "broken" { Err("no answer: try again".into()) } else { Ok(self.0.get(name).cloned()) }
        }
        .boxed()
    }

    fn rollouts<'a>(&'a self, _: &'a str, picks: Picks<'a>) -> BoxFuture<'a, Rollouts> {
        let of_rollout =
            |session: &&ProfileSession| session.labels().contains_key(REVISION_LABEL) && picks(session);
        let rollouts = self.0.values().filter(of_rollout).cloned().collect();
        async move { Ok(rollouts) }.boxed()
    }
}

/// Members of the group `devs` may read everything but the session `secret`, and those of `builders` do everything
/// with symbols; counts how often it is asked.
#[derive(Default)]
pub(in crate::data_api) struct Devs(AtomicUsize);

impl Authorize for Devs {
    fn allows<'a>(&'a self, user: &'a User, access: &'a Access) -> BoxFuture<'a, Result<bool, String>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let wanted = if access.resource == SYMBOLS { "builders" } else { "devs" };
        let known = user.groups.iter().any(|group| group == wanted);
        async move { Ok(known && access.name != "secret") }.boxed()
    }
}

/// The read API over a volume with the profiles of two pods of `shop/now`, of one pod of `shop/before`, which
/// profiled the revision before, and of two processes of one pod of `shop/mixed`.
pub(in crate::data_api) struct World {
    pub(in crate::data_api) api: DataApi,
    volume: tempfile::TempDir,
}

impl World {
    pub(in crate::data_api) async fn new() -> Self {
        let volume = tempfile::tempdir().unwrap();
        let results = open(volume.path()).await;
        let now = |work: u32| slice(&[("work", work), ("wait", 1)]);
        for (session, pod, body) in [
            ("session-1", "orders-1", now(6)),
            ("session-1", "orders-2", now(3)),
            ("session-0", "orders-0", slice(&[("work", 2), ("wait", 1), ("</script>", 20)])),
            ("session-2", "shop-1", slice_of_processes()),
        ] {
            let scope = scope_of(pod, session, pod);
            results.put_slice(&scope, cpu(0), Bytes::from(body), [0; 32]).await.unwrap();
            results.assemble(&scope, ProfileKind::Cpu, 1).await.unwrap();
        }
        let scope =
            CaptureScope { profiles: vec![ProfileKind::Wall], ..scope_of("wall", "session-1", "orders-1") };
        let slice = SliceId::new(ProfileKind::Wall, 0);
        results.put_slice(&scope, slice, waiting_slice().into(), [0; 32]).await.unwrap();
        results.assemble(&scope, ProfileKind::Wall, 1).await.unwrap();
        let mut ended = session(Phase::Succeeded, &[("orders-1", 7), ("orders-2", 4)]);
        let targets = ended.status.as_mut().map(|status| &mut status.targets).unwrap();
        let wall = StoredProfile {
            kind: ProfileKind::Wall,
            uri: "w".into(),
            bytes: 1,
            samples: 4,
            destinations: vec![],
            failed: vec![],
        };
        targets[0].profiles.push(wall);
        place(&mut ended);
        let mut lost = ended.clone();
        lost.metadata.uid = Some("session-of-yesterday".into());
        place(&mut lost);
        rollout(&mut ended, "r2", 2_000);
        let mut before = named("before", "session-0", &[("orders-0", 23)]);
        rollout(&mut before, "r1", 1_000);
        let mixed = named("mixed", "session-2", &[("shop-1", 9)]);
        let running = session(Phase::Running, &[]);
        let (feed, source) = FrontProxySource::channel();
        feed.replace(front_proxy(&["front-proxy-client"]));
        let api = DataApi {
            front_proxy: source,
            authorize: Arc::new(Devs::default()),
            sessions: Arc::new(Table(HashMap::from([
                ("now", ended),
                ("before", before),
                ("mixed", mixed),
                ("lost", lost),
                ("running", running),
            ]))),
            results,
            metrics: DataApiMetrics::default(),
        };
        Self { api, volume }
    }

    /// The same, where people may upload so many bytes of symbols, which a shell with this script checks.
    pub(in crate::data_api) async fn with_uploads(script: &str, size: u64) -> Self {
        Self::new().await.restarted(script, size)
    }

    /// The same after another process has looked at what was uploaded.
    pub(in crate::data_api) fn restarted(self, script: &str, size: u64) -> Self {
        let symbols = Symbols::scripted(script, size, self.volume.path());
        let api = DataApi { results: self.api.results.clone().named_by(symbols), ..self.api.clone() };
        Self { api, ..self }
    }

    /// How many files are where uploads are kept, unfinished ones included.
    pub(in crate::data_api) fn uploaded_files(&self) -> usize {
        std::fs::read_dir(self.volume.path().join("symbols/uploaded")).map_or(0, Iterator::count)
    }

    /// Sends a request as the front proxy does for Ann, a member of `devs`.
    pub(in crate::data_api) async fn get(&self, path: &str) -> Answer {
        self.send(
            "GET",
            path,
            &[("x-remote-user", "ann"), ("x-remote-group", "devs")],
            Some("front-proxy-client"),
        )
        .await
    }

    pub(in crate::data_api) async fn send(
        &self,
        method: &str,
        path: &str,
        pairs: &[(&str, &str)],
        name: Option<&str>,
    ) -> Answer {
        self.send_body(method, path, pairs, (name, Body::empty())).await
    }

    pub(in crate::data_api) async fn send_body(
        &self,
        method: &str,
        path: &str,
        pairs: &[(&str, &str)],
        (name, body): (Option<&str>, Body),
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).body(body).unwrap();
        *request.headers_mut() = headers(pairs);
        let client_certs: Vec<_> = name.map(certificate).into_iter().collect();
        request.extensions_mut().insert(PeerInfo::new("10.0.0.1:4000".parse().unwrap(), client_certs));
        let response = router(self.api.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }
}

/// What came back.
pub(in crate::data_api) struct Answer {
    pub(in crate::data_api) status: StatusCode,
    pub(in crate::data_api) headers: HeaderMap,
    pub(in crate::data_api) body: Bytes,
}

impl Answer {
    pub(in crate::data_api) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    pub(in crate::data_api) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}
