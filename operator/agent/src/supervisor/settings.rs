//! What does the agent get told at its start? Everything by environment, as the webhook and the controller
//! write it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use fleetprof_crds::ProfileKind;

use crate::capture;

/// Memory that the containers of a pod share: the spool of a sidecar, and the fallback of an attached agent. It
/// outlives the agent's container, and counts as the agent's memory.
pub(super) const MEMORY_DIR: &str = "/dev/shm";
/// Maximum size of slices there, in bytes; an app finds 64 MiB there.
pub(super) const MEMORY_LIMIT: u64 = 8 * 1024 * 1024;

/// Settings of the agent.
#[derive(Args, Clone)]
pub struct Settings {
    /// URL of the gateway, such as `https://fleetprof-leader.fleetprof.svc:8443`.
    #[arg(long, env = "FLEETPROF_GATEWAY")]
    pub gateway: String,
    /// CA certificates to trust, in PEM; no others are trusted.
    #[arg(long, env = "FLEETPROF_CA", hide_env_values = true)]
    pub ca: String,
    /// Path of the projected service account token.
    #[arg(long, env = "FLEETPROF_TOKEN_FILE", default_value = "/var/run/secrets/fleetprof.dev/token")]
    pub token_file: PathBuf,
    /// Ticket of an attached agent.
    #[arg(long, env = "FLEETPROF_TICKET", hide_env_values = true)]
    pub ticket: Option<String>,
    /// Directory for records and slices.
    #[arg(long, env = "FLEETPROF_SPOOL", default_value = "/var/spool/fleetprof")]
    pub spool: PathBuf,
    /// Maximum size of slices in the spool, in bytes.
    #[arg(long, env = "FLEETPROF_SPOOL_LIMIT", default_value_t = 64 * 1024 * 1024)]
    pub spool_limit: u64,
    /// Idle time after which an attached agent exits that no gateway tells how long to stay.
    #[arg(long, env = "FLEETPROF_IDLE_EXIT", default_value = "2h")]
    pub idle_exit: fleetprof_crds::Duration,
    /// Seconds after SIGTERM in which workers end and slices are uploaded: 1 to 60.
    #[arg(long, env = "FLEETPROF_SHUTDOWN_GRACE", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=60))]
    pub shutdown_grace: u64,
    /// Worker executable; defaults to `fleetprof-worker` beside this program.
    #[arg(long, env = "FLEETPROF_WORKER", hide = true)]
    pub worker: Option<PathBuf>,
    /// Kinds of profiles that the worker captures; defaults to those of the collectors.
    #[arg(long, env = "FLEETPROF_WORKER_PROFILES", hide = true, value_delimiter = ',')]
    pub worker_profiles: Vec<ProfileKind>,
    /// Seconds a worker may run longer than its capture.
    #[arg(long, env = "FLEETPROF_WORKER_GRACE", hide = true, default_value_t = 25)]
    pub worker_grace: u64,
    /// Path of the proc file system.
    #[arg(long, env = "FLEETPROF_PROC", hide = true, default_value = "/proc")]
    pub proc: PathBuf,
}

impl Settings {
    /// Where the spool may be, best first: that of a sidecar is told by the webhook and outlives the agent's
    /// restarts. An attached agent takes a private directory in `/tmp`, or in memory where that is read-only.
    #[must_use]
    pub fn spool_candidates(&self, instance: &str) -> Vec<PathBuf> {
        let private = format!("fleetprof-{instance}");
        let fallbacks = [std::env::temp_dir(), PathBuf::from(MEMORY_DIR)];
        std::iter::once(self.spool.clone()).chain(fallbacks.map(|dir| dir.join(&private))).collect()
    }

    /// What the workers capture.
    #[must_use]
    pub fn kinds(&self) -> Vec<ProfileKind> {
        if self.worker_profiles.is_empty() {
            capture::collector::kinds()
        } else {
            self.worker_profiles.clone()
        }
    }

    /// The program that captures.
    ///
    /// # Errors
    /// The path of this program is not known.
    pub fn worker_program(&self) -> std::io::Result<PathBuf> {
        match &self.worker {
            Some(program) => Ok(program.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("fleetprof-worker")),
        }
    }

    /// [`Settings::idle_exit`] as a length of time.
    #[must_use]
    pub fn idle_exit(&self) -> Duration {
        Duration::from_secs(u64::from(self.idle_exit.as_secs()))
    }
}
