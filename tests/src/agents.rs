//! Who speaks for pods that no node runs? Agents that report, take orders and upload what they are told to, by the
//! protocol of real ones.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fleetprof_crds::ProfileKind;
use fleetprof_crds::wire::{
    AgentMode, CaptureReport, CaptureState, ContainerReport, DIGEST_HEADER, Heartbeat, Offer, OrderList,
    PROTOCOL, SliceId, slice_path,
};
use serde_json::json;

use crate::kubelet::Place;
use crate::operator::Operator;

/// How often agents report, and ask for orders.
const PAUSE: Duration = Duration::from_millis(500);

/// The agents of some pods, which run until this is dropped.
pub struct Agents {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Agents {
    /// Starts an agent for each pod of the place, which answers every order with one slice of its profile: a
    /// gzipped pprof file with so many samples.
    ///
    /// # Errors
    /// When a pod has no token.
    pub fn start(place: &Place, operator: &Operator, pods: Vec<(String, Vec<u8>, i64)>) -> Result<Self> {
        let agents: Result<Vec<Agent>> = pods
            .into_iter()
            .map(|(pod, profile, samples)| Agent::new(place, operator.gateway, &pod, (profile, samples)))
            .collect();
        let (mut agents, stop) = (agents?, Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for agent in &mut agents {
                    // The gateway may be busy; an agent tries again.
                    if let Err(error) = agent.turn() {
                        eprintln!("the agent of {}: {error:#}", agent.pod);
                    }
                }
                std::thread::sleep(PAUSE);
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

struct Agent {
    pod: String,
    base: String,
    token: String,
    profile: Vec<u8>,
    samples: i64,
    done: Vec<CaptureReport>,
}

impl Agent {
    fn new(place: &Place, port: u16, pod: &str, (profile, samples): (Vec<u8>, i64)) -> Result<Self> {
        let bound = ["--bound-object-kind", "Pod", "--bound-object-name", pod];
        let audience = ["create", "token", "default", "--audience", "fleetprof.dev/gateway"];
        let token = place.kubectl(&[&audience[..], &bound].concat())?.trim().to_owned();
        let base = format!("https://127.0.0.1:{port}");
        Ok(Self { pod: pod.to_owned(), base, token, profile, samples, done: Vec::new() })
    }

    /// Reports, and does what it is ordered to.
    fn turn(&mut self) -> Result<()> {
        let beat = self.heartbeat();
        self.call(&["-H", "content-type: application/json", "-d", &beat], "/v1/heartbeat", None)?;
        let orders = self.call(&[], &format!("/v1/orders?wait=0&agent={}", self.pod), None)?;
        if orders.is_empty() {
            return Ok(());
        }
        let orders: OrderList = serde_json::from_str(&orders).context("the list of orders")?;
        for order in orders.orders {
            if self.done.iter().any(|report| report.capture == order.capture) {
                continue;
            }
            let path = slice_path(&order.capture, &order.profiles, SliceId::new(ProfileKind::Cpu, 0));
            let digest = format!("{DIGEST_HEADER}: {}", sha256(&self.profile)?);
            let upload =
                ["-X", "PUT", "-H", "content-type: application/gzip", "-H", &digest, "--data-binary", "@-"];
            self.call(&upload, &path, Some(&self.profile))?;
            self.done.push(self.report(&order.capture));
        }
        Ok(())
    }

    fn report(&self, capture: &str) -> CaptureReport {
        CaptureReport {
            samples: self.samples,
            slices: 1,
            uploaded: 1,
            started_ago_ms: Some(10_000),
            ended_ago_ms: Some(0),
            processes: Some(1),
            profiled_ms: Some(self.samples * 10),
            used_ms: Some(self.samples * 10),
            ..CaptureReport::new(capture, CaptureState::Finished)
        }
    }

    fn heartbeat(&self) -> String {
        let container = ContainerReport {
            id: format!("{}-app", self.pod),
            runtime: "Python 3.11".into(),
            cpu_percent: Some(50),
            memory_percent: Some(10),
            cpu_of_node: false,
            memory_of_node: false,
            signals: None,
            problem: None,
            offers: vec![Offer::good(ProfileKind::Cpu, "cpython")],
        };
        let beat = Heartbeat {
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL,
            mode: AgentMode::Sidecar,
            instance: self.pod.clone(),
            containers: vec![container],
            captures: self.done.clone(),
            sent_at_ms: None,
            leaving: false,
            number: None,
        };
        json!(beat).to_string()
    }

    fn call(&self, arguments: &[&str], path: &str, body: Option<&[u8]>) -> Result<String> {
        let (bearer, url) = (format!("authorization: Bearer {}", self.token), format!("{}{path}", self.base));
        // The certificate is for the Service's name.
        let common = ["-sk", "--fail-with-body", "-m", "10", "-H", &bearer, &url];
        pipe("curl", &[&common[..], arguments].concat(), body.unwrap_or_default())
    }
}

/// Runs a program with this input, and returns what it prints.
fn pipe(program: &str, arguments: &[&str], input: &[u8]) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} could not be started"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{program} failed ({}): {text}", output.status);
    }
    Ok(text)
}

fn sha256(bytes: &[u8]) -> Result<String> {
    let said = pipe("sha256sum", &["-"], bytes)?;
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}
