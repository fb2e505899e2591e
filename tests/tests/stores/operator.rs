//! The results of an operator with a destination `archive`, without the rest of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetprof_core::capture::{CaptureScope, Weight};
use fleetprof_core::destination::Delivery;
use fleetprof_core::storage::quota::Quotas;
use fleetprof_crds::session_status::{StoredProfile, TargetStatus};
use fleetprof_crds::wire::SliceId;
use fleetprof_crds::{ProfileKind, ProfileSession, ProfileSessionStatus};
use fleetprof_operator::configuration::Configuration;
use fleetprof_operator::destinations::{DestinationMetrics, Identity, Wake};
use fleetprof_operator::gateway::SliceSink;
use fleetprof_operator::results::{Reading, Results, ResultsConfig, ResultsMetrics};
use fleetprof_profile::{Frame, Limits, ProfileBuilder, decode_valid, encode, total};
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;

use crate::server::Server;

pub struct Operator {
    pub results: Results,
    _tasks: JoinSet<anyhow::Result<()>>,
}

/// The session of that uid.
pub fn session(uid: &str) -> ProfileSession {
    let object = json!({
        "apiVersion": "fleetprof.dev/v1alpha1", "kind": "ProfileSession",
        "metadata": {"name": "now", "namespace": "shop", "uid": uid}, "spec": {},
    });
    serde_json::from_value(object).unwrap()
}

/// The same with the target whose profile it is.
pub fn session_of(uid: &str, pod: &str) -> ProfileSession {
    let mut session = session(uid);
    let scope = scope(uid, pod);
    let target = TargetStatus {
        pod: scope.pod_name,
        pod_uid: scope.pod_uid,
        workload: scope.workload,
        container: scope.container,
        container_id: scope.container_id,
        ..TargetStatus::default()
    };
    session.status = Some(ProfileSessionStatus { targets: vec![target], ..ProfileSessionStatus::default() });
    session
}

fn scope(uid: &str, pod: &str) -> CaptureScope {
    CaptureScope {
        capture: format!("{uid}-{pod}"),
        session_uid: uid.into(),
        session_namespace: "shop".into(),
        session_name: "now".into(),
        pod_uid: "pod-uid".into(),
        pod_name: pod.into(),
        node: "node-1".into(),
        workload: "Deployment/orders".into(),
        container: "app".into(),
        container_id: "c0ffee0123456789".into(),
        profiles: vec![ProfileKind::Cpu],
        destination: "archive".into(),
        labels: BTreeMap::new(),
        max_bytes: u64::MAX,
        started: Timestamp::from_second(1_700_000_000).unwrap(),
        weight: Weight::default(),
    }
}

/// A slice of seven samples.
fn slice() -> Vec<u8> {
    let mut builder = ProfileBuilder::new(ProfileKind::Cpu, 10_101_010, 1_700_000_000_000_000_000);
    for n in 0..7 {
        let name = format!("function_{n}");
        builder
            .add_hits(&[Frame::named(&name, "main.rs", 1), Frame::named("main", "main.rs", 9)], 1, &[])
            .unwrap();
    }
    encode(&builder.finish(10_000_000_000, &[])).unwrap()
}

impl Operator {
    /// One on that volume.
    pub async fn start(server: &Server, volume: &Path) -> Self {
        Self::of(&server.config(), volume).await
    }

    /// One with that file of destinations.
    pub async fn of(file: &Path, volume: &Path) -> Self {
        let config = ResultsConfig {
            root: volume.into(),
            cluster: "prod".into(),
            capacity: None,
            share: 100,
            quotas: Quotas::default(),
        };
        let destinations = Configuration::read(Some(file)).unwrap().destinations;
        let identity = Identity { cluster: config.cluster_component(), uid: "cluster-uid".into() };
        let build = move |merges: &_| destinations.build(&identity, merges);
        let metrics = DestinationMetrics::default();
        let opened = Results::open_with(config, ResultsMetrics::default(), (build, metrics)).await;
        let results = opened.unwrap();
        let mut tasks = JoinSet::new();
        let wake: Wake = Arc::new(|_: &str, _: &str| {});
        results.destinations().start(&wake, &mut tasks);
        Self { results, _tasks: tasks }
    }

    /// The profile of a pod, made of one slice.
    pub async fn capture(&self, uid: &str, pod: &str) -> StoredProfile {
        let scope = scope(uid, pod);
        let id = SliceId::new(ProfileKind::Cpu, 0);
        self.results.put_slice(&scope, id, slice().into(), [0; 32]).await.unwrap();
        self.results.assemble(&scope, ProfileKind::Cpu, 1).await.unwrap()
    }

    pub fn deliver(&self, uid: &str, profile: &StoredProfile) -> Delivery {
        self.results.deliver(&session(uid), profile, "archive")
    }

    /// Waits until the archive holds a profile.
    pub async fn arrives(&self, uid: &str, profile: &StoredProfile) {
        self.all_arrive(&[(uid.to_owned(), profile.clone())]).await;
    }

    /// Waits until the archive holds all of them.
    pub async fn all_arrive(&self, profiles: &[(String, StoredProfile)]) {
        let mut left: Vec<&(String, StoredProfile)> = profiles.iter().collect();
        let end = Instant::now() + Duration::from_secs(120);
        while !left.is_empty() {
            let mut why = None;
            left.retain(|(uid, profile)| match self.deliver(uid, profile) {
                Delivery::Stored => false,
                Delivery::Underway(said) => {
                    why = said.or(why.take());
                    true
                }
                Delivery::Failed(reason, why) => panic!("{} failed: {reason}: {why}", profile.uri),
            });
            assert!(Instant::now() < end, "{} profiles did not arrive: {why:?}", left.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The samples of a profile, as a reader gets it.
    pub async fn samples(&self, uid: &str, profile: &StoredProfile) -> i64 {
        self.results
            .fetch(
                &session(uid),
                vec![profile.clone()],
                std::time::Instant::now() + std::time::Duration::from_secs(30),
            )
            .await
            .unwrap();
        let reading = Reading { keys: Some(vec![profile.uri.clone()]), ..Reading::of(uid, ProfileKind::Cpu) };
        let bytes = self.results.session_profile(reading).await.unwrap();
        total(&decode_valid(&bytes, &Limits::default()).unwrap(), 0)
    }

    /// The profile of a capture that this operator has nothing of.
    pub async fn recall(&self, uid: &str, pod: &str) -> Option<StoredProfile> {
        self.results.recall(&session(uid), &scope(uid, pod), ProfileKind::Cpu, "archive").await.unwrap()
    }
}
