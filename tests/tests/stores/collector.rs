//! A real OpenTelemetry Collector with the signal of profiles, and what it understood of what it was sent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fleetprof_core::destination::Delivery;
use fleetprof_crds::session_status::StoredProfile;
use serde_json::Value;
use tempfile::TempDir;

use crate::operator::{Operator, session_of};
use crate::server::programs;

/// It ends with the value.
struct Collector {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Collector {
    /// One that takes profiles, or traces alone.
    fn start(signal: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = tempfile::tempdir().unwrap();
        let lines = folder.path().join("lines");
        let exporters = if signal == "profiles" { "debug, lines" } else { "debug" };
        let config = format!(
            "receivers:\n  otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}\n\
             exporters:\n  debug: {{}}\n  lines: {{path: '{}'}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  \
             pipelines:\n    {signal}: {{receivers: [otlp], exporters: [{exporters}]}}\n",
            lines.display()
        );
        let file = folder.path().join("collector.yaml");
        std::fs::write(&file, config).unwrap();
        let mut collector = Self { folder, port, child: None };
        collector.run(&file);
        collector
    }

    fn run(&mut self, file: &Path) {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(programs().join("collector"));
        command.arg("--config").arg(format!("file:{}", file.display()));
        command.arg("--feature-gates=service.profilesSupport");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "the collector does not listen: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The file with the destination `archive`, as the chart writes it.
    fn config(&self) -> PathBuf {
        let file = self.folder.path().join("config.yaml");
        let settings = format!("kind: otlp, url: 'http://127.0.0.1:{}'", self.port);
        std::fs::write(&file, format!("destinations:\n  archive: {{{settings}}}\n")).unwrap();
        file
    }

    /// The requests that it took, as it understood them.
    fn requests(&self) -> Vec<Value> {
        let lines = std::fs::read_to_string(self.folder.path().join("lines")).unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// An entry of a list by an index that may be left out where it is 0.
fn at<'a>(list: &'a Value, index: &Value) -> &'a Value {
    &list[usize::try_from(index.as_u64().unwrap_or(0)).unwrap()]
}

/// 64-bit numbers are texts in this JSON.
fn number(value: &Value) -> i64 {
    value
        .as_i64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// What each stack adds up to, by sample type, in a request.
fn sums(request: &Value) -> BTreeMap<(String, String), i64> {
    let dictionary = &request["dictionary"];
    let text = |index: &Value| at(&dictionary["stringTable"], index).as_str().unwrap_or_default().to_owned();
    let mut sums = BTreeMap::new();
    for profile in request["resourceProfiles"][0]["scopeProfiles"][0]["profiles"].as_array().unwrap() {
        let of_type = &profile["sampleType"];
        let of_type = format!("{}/{}", text(&of_type["typeStrindex"]), text(&of_type["unitStrindex"]));
        for sample in profile["samples"].as_array().unwrap() {
            let stack = at(&dictionary["stackTable"], &sample["stackIndex"]);
            let names = stack["locationIndices"].as_array().unwrap().iter().map(|index| {
                let line = &at(&dictionary["locationTable"], index)["lines"][0];
                text(&at(&dictionary["functionTable"], &line["functionIndex"])["nameStrindex"])
            });
            let stack = names.collect::<Vec<_>>().join(" < ");
            let values = sample["values"].as_array().unwrap().iter().map(number);
            *sums.entry((of_type.clone(), stack)).or_insert(0) += values.sum::<i64>();
        }
    }
    sums
}

/// The attributes of the resource, whose texts the Collector writes into the table.
fn resource(request: &Value) -> BTreeMap<String, String> {
    let attributes = request["resourceProfiles"][0]["resource"]["attributes"].as_array().unwrap();
    let text = |index: &Value| at(&request["dictionary"]["stringTable"], index).as_str().unwrap().to_owned();
    let pair = |attribute: &Value| {
        (text(&attribute["keyStrindex"]), text(&attribute["value"]["stringValueStrindex"]))
    };
    attributes.iter().map(pair).collect()
}

/// Offers a profile until something came of it.
async fn settled(operator: &Operator, profile: &StoredProfile) -> Delivery {
    let session = session_of("session-1", "orders-1");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match operator.results.deliver(&session, profile, "archive") {
            Delivery::Underway(None) if Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            settled => return settled,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_understands_what_it_is_sent() {
    let collector = Collector::start("profiles");
    let volume = tempfile::tempdir().unwrap();
    let operator = Operator::of(&collector.config(), volume.path()).await;
    let profile = operator.capture("session-1", "orders-1").await;
    assert_eq!(settled(&operator, &profile).await, Delivery::Stored);
    let requests = collector.requests();
    let [request] = &requests[..] else { panic!("{} requests", requests.len()) };
    let sums = sums(request);
    assert_eq!(sums.len(), 14, "seven stacks, by time and by count: {sums:#?}");
    for n in 0..7 {
        let of = |of_type: &str| sums.get(&(of_type.to_owned(), format!("function_{n} < main")));
        assert_eq!((of("samples/count"), of("cpu/nanoseconds")), (Some(&1), Some(&10_101_010)));
    }
    let told = resource(request);
    let told: Vec<(&str, &str)> = told.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let wanted = [
        ("container.id", "c0ffee0123456789"),
        ("k8s.cluster.name", "prod"),
        ("k8s.container.name", "app"),
        ("k8s.deployment.name", "orders"),
        ("k8s.namespace.name", "shop"),
        ("k8s.node.name", "node-1"),
        ("k8s.pod.name", "orders-1"),
        ("k8s.pod.uid", "pod-uid"),
        ("service.name", "orders"),
    ];
    assert_eq!(told, wanted);
    let of_time = &request["resourceProfiles"][0]["scopeProfiles"][0]["profiles"][0];
    assert_eq!(number(&of_time["timeUnixNano"]), 1_700_000_000_000_000_000);
    assert_eq!((number(&of_time["durationNano"]), number(&of_time["period"])), (10_000_000_000, 10_101_010));
    assert_eq!(of_time["profileId"].as_str().unwrap().len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_without_profiles_is_told_apart_and_nothing_is_given_up() {
    let collector = Collector::start("traces");
    let volume = tempfile::tempdir().unwrap();
    let operator = Operator::of(&collector.config(), volume.path()).await;
    let profile = operator.capture("session-1", "orders-1").await;
    match settled(&operator, &profile).await {
        Delivery::Underway(Some(why)) => {
            assert!(why.contains("404: the server does not take profiles at that path"), "{why}");
            assert!(why.contains("OTLP profiles 1.11.0 (alpha)"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}
