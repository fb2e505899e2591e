//! How does the operator run beside an API server that has no node? As a process of this machine, with the
//! rights of the chart's ServiceAccount and no others.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{chart, root, run, wait_for};

/// The user whose rights the operator has.
pub const ACCOUNT: &str = "system:serviceaccount:fleetprof:fleetprof-operator";

/// A running operator; it is stopped when the test ends.
pub struct Operator {
    child: Child,
    health: u16,
    /// Port of the gateway that agents talk to.
    pub gateway: u16,
    /// Where its log is.
    pub log: PathBuf,
    /// How long it took from its start until it led.
    pub led_after: Duration,
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Asked to stop, it gives its lease back, so that the next one need not wait until it runs out.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Operator {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A counter, given as Prometheus writes it; 0 where it has not counted yet.
    ///
    /// # Errors
    /// When the operator does not answer.
    pub fn counts(&self, counter: &str) -> Result<u64> {
        let text = run("curl", &["-sf", &format!("http://127.0.0.1:{}/metrics", self.health)])?;
        let count = text.lines().find_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
        Ok(count.map_or(Ok(0), str::parse)?)
    }

    /// The value of a series, as Prometheus writes it; `None` where there is none.
    ///
    /// # Errors
    /// When the operator does not answer.
    pub fn shows(&self, series: &str) -> Result<Option<String>> {
        let text = run("curl", &["-sf", &format!("http://127.0.0.1:{}/metrics", self.health)])?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.map(str::to_owned))
    }

    /// Installs the CRDs, the operator's roles and the gate as the chart does, with these arguments for Helm,
    /// and starts the operator with these flags. Comes back when it leads.
    ///
    /// # Errors
    /// When it cannot be built, or does not lead within a minute.
    pub async fn start(kubeconfig: &Path, helm: &[&str], flags: &[&str]) -> Result<Self> {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fleetprof"}}).to_string();
        chart::kubectl(kubeconfig, &["apply", "--server-side", "-f", "-"], Some(&namespace))?;
        chart::apply(
            kubeconfig,
            &["templates/crds.yaml", "templates/access/", "templates/operator/rbac.yaml"],
            helm,
        )?;
        chart::kubectl(
            kubeconfig,
            &["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"],
            None,
        )?;
        let spawned = Instant::now();
        let mut operator = Self::spawn(kubeconfig, flags)?;
        wait_for(
            &format!("the operator leads; see {}", operator.log.display()),
            Duration::from_secs(60),
            || async {
                Ok(std::fs::read_to_string(&operator.log)?.contains("leader is ready").then_some(()))
            },
        )
        .await?;
        operator.led_after = spawned.elapsed();
        Ok(operator)
    }

    /// The program, at free ports of this machine.
    fn spawn(kubeconfig: &Path, flags: &[&str]) -> Result<Self> {
        let program = program()?;
        let folder = root().join("target/tests").join(format!("operator-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let own = folder.join("kubeconfig");
        std::fs::write(&own, as_account(kubeconfig)?)?;
        let log = folder.join("log");
        let mut command = Command::new(program);
        command
            .arg("run")
            .env("KUBECONFIG", &own)
            .env("FLEETPROF_AGENT_IMAGE", concat!("fleetprof-agent:", env!("CARGO_PKG_VERSION")))
            .env("POD_NAME", format!("operator-{}", std::process::id()));
        // An EndpointSlice takes no loopback address; nobody connects to this one.
        command.env("POD_IP", "192.0.2.1");
        let (health, gateway) = (port()?, port()?);
        for (flag, port) in [("--gateway-port", gateway), ("--data-port", port()?), ("--health-port", health)]
        {
            command.arg(flag).arg(port.to_string());
        }
        command.arg("--results").arg(folder.join("results")).args(flags);
        let child = command
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("the operator did not start")?;
        Ok(Self { child, health, gateway, log, led_after: Duration::ZERO })
    }
}

/// The operator that `FLEETPROF_OPERATOR` names, or the build that the tests are of.
fn program() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("FLEETPROF_OPERATOR") {
        return Ok(program.into());
    }
    // The flags of `make test`: with others, cargo would compile most of it again.
    run(env!("CARGO"), &["build", "--workspace", "--bins", "--tests", "--locked", "--quiet", "--offline"])?;
    // Beside a program that runs, and in the folder above a test's, wherever cargo puts what it builds.
    let own = std::env::current_exe()?;
    let built = own.ancestors().skip(1).map(|folder| folder.join("fleetprof-operator"));
    built.take(2).find(|program| program.is_file()).context("cargo built no fleetprof-operator")
}

/// A port that was free a moment ago, and another one each time.
///
/// # Errors
/// When this machine has none.
pub fn port() -> Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
}

/// The same kubeconfig, acting as the operator's account.
fn as_account(kubeconfig: &Path) -> Result<String> {
    let text = chart::kubectl(kubeconfig, &["config", "view", "--raw", "-o", "json"], None)?;
    let mut config: Value = serde_json::from_str(&text)?;
    for user in config["users"].as_array_mut().into_iter().flatten() {
        user["user"]["as"] = json!(ACCOUNT);
        user["user"]["as-groups"] =
            json!(["system:serviceaccounts", "system:serviceaccounts:fleetprof", "system:authenticated"]);
    }
    Ok(config.to_string())
}
