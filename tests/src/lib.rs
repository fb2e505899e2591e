//! What do all tests against a real Kubernetes need? A cluster, clients of different people, and a way to
//! wait.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};

pub mod agents;
pub mod chart;
pub mod kubelet;
pub mod operator;
pub mod people;
pub mod process;
pub mod runtimes;
pub mod shop;

/// The root of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a command of the rig and returns what it prints; its own output goes to the test's.
///
/// # Errors
/// When it fails, with what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .with_context(|| format!("{program} could not be started"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{program} {arguments:?} failed ({}): {text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text)
}

/// The kubeconfig of an API server that runs alone, started once a process; 5 s.
///
/// # Errors
/// When it does not start.
pub fn api_server() -> Result<PathBuf> {
    static STARTED: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        let rig = root().join("tests/cluster/cluster");
        run(&rig.to_string_lossy(), &["up", "--api-only", "--with-controllers"])
            .map_err(|e| format!("{e:#}"))?;
        let tools = run(&rig.to_string_lossy(), &["tools"]).map_err(|e| format!("{e:#}"))?;
        let path = tools
            .lines()
            .find_map(|l| l.strip_prefix("API_KUBECONFIG="))
            .ok_or("the rig names no API_KUBECONFIG")?;
        Ok(PathBuf::from(path))
    });
    started.clone().map_err(anyhow::Error::msg)
}

/// The kubeconfig of the full cluster: `KUBECONFIG`, else the project's own, which `make test` has started.
///
/// # Errors
/// When the rig does not answer.
pub fn cluster() -> Result<PathBuf> {
    match std::env::var_os("KUBECONFIG") {
        Some(path) => Ok(path.into()),
        None => {
            Ok(run(&root().join("tests/cluster/cluster").to_string_lossy(), &["kubeconfig"])?.trim().into())
        }
    }
}

/// A client with all rights.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub async fn admin(kubeconfig: &std::path::Path) -> Result<Client> {
    person(kubeconfig, None, &[]).await
}

/// A client that acts as somebody else.
///
/// # Errors
/// When the kubeconfig cannot be read.
pub async fn person(kubeconfig: &std::path::Path, user: Option<&str>, groups: &[&str]) -> Result<Client> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default())
            .await?;
    config.auth_info.impersonate = user.map(str::to_owned);
    config.auth_info.impersonate_groups =
        (!groups.is_empty()).then(|| groups.iter().map(|g| (*g).to_owned()).collect());
    Ok(Client::try_from(config)?)
}

/// What a wait may take on a machine that does other things too, as a multiple of what it may take on an idle one.
/// On two cores the tests on API servers run beside those on the cluster. A rule about time is measured by its
/// test; the limit of a wait only ends a test that hangs.
const SLACK: u32 = 4;

/// Waits until `look` gives something.
///
/// # Errors
/// When it does not within `limit` on an idle machine, or four times that on a busy one; the error says what was
/// waited for.
pub async fn wait_for<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let limit = limit * SLACK;
    let end = Instant::now() + limit;
    loop {
        match look().await {
            Ok(Some(found)) => return Ok(found),
            other if Instant::now() > end => {
                bail!(
                    "not so within {limit:?}: {what}{}",
                    other.err().map(|e| format!(" ({e:#})")).unwrap_or_default()
                )
            }
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}
