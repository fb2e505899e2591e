//! What does the agent get told at its start? Everything by environment, as the webhook and the controller
//! write it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// The last place for a spool; what is in it counts as the pod's memory.
pub(super) const MEMORY_DIR: &str = "/dev/shm";
/// Most bytes of slices that wait there.
pub(super) const MEMORY_LIMIT: u64 = 8 * 1024 * 1024;

/// Settings of the agent.
#[derive(Args, Clone)]
pub struct Settings {
    /// Where the gateway is, such as `https://fleetprof-leader.fleetprof.svc:8443`.
    #[arg(long, env = "FLEETPROF_GATEWAY")]
    pub gateway: String,
    /// The CA certificates to trust, PEM text; no others are trusted.
    #[arg(long, env = "FLEETPROF_CA", hide_env_values = true)]
    pub ca: String,
    /// The file with the projected service-account token.
    #[arg(long, env = "FLEETPROF_TOKEN_FILE", default_value = "/var/run/secrets/fleetprof.dev/token")]
    pub token_file: PathBuf,
    /// The ticket of an attached agent.
    #[arg(long, env = "FLEETPROF_TICKET", hide_env_values = true)]
    pub ticket: Option<String>,
    /// The directory for records and slices.
    #[arg(long, env = "FLEETPROF_SPOOL", default_value = "/var/spool/fleetprof")]
    pub spool: PathBuf,
    /// Most bytes of slices that wait in the spool.
    #[arg(long, env = "FLEETPROF_SPOOL_LIMIT", default_value_t = 64 * 1024 * 1024)]
    pub spool_limit: u64,
    /// How long an attached agent waits for an order before it ends itself.
    #[arg(long, env = "FLEETPROF_IDLE_EXIT", default_value = "2h")]
    pub idle_exit: fleetprof_crds::Duration,
    /// The program that captures; this one when not set.
    #[arg(long, env = "FLEETPROF_WORKER", hide = true)]
    pub worker: Option<PathBuf>,
    /// Seconds that a worker may take beyond its capture.
    #[arg(long, env = "FLEETPROF_WORKER_GRACE", hide = true, default_value_t = 25)]
    pub worker_grace: u64,
    /// The tree of processes.
    #[arg(long, env = "FLEETPROF_PROC", hide = true, default_value = "/proc")]
    pub proc: PathBuf,
}

impl Settings {
    /// Where the spool may be, best first: the volume of a sidecar outlives the agent's restarts. An attached
    /// agent has no volume: it takes a private directory in `/tmp`, or in memory where even that is
    /// read-only.
    #[must_use]
    pub fn spool_candidates(&self, instance: &str) -> Vec<PathBuf> {
        let private = format!("fleetprof-{instance}");
        let fallbacks = [std::env::temp_dir(), PathBuf::from(MEMORY_DIR)];
        std::iter::once(self.spool.clone()).chain(fallbacks.map(|dir| dir.join(&private))).collect()
    }

    /// [`Settings::idle_exit`] as a length of time.
    #[must_use]
    pub fn idle_exit(&self) -> Duration {
        Duration::from_secs(u64::from(self.idle_exit.as_secs()))
    }
}
