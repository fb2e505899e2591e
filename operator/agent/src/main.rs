//! The binary `fleetprof-agent`.

use std::process::ExitCode;

use clap::Parser;
use fleetprof_agent::capture::worker;
use fleetprof_agent::supervisor::{self, Settings, inspect};
use fleetprof_crds::wire::AgentMode;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Agent that profiles the containers of its pod, or of its node.
#[derive(Parser)]
#[command(name = "fleetprof-agent", version)]
enum Command {
    /// Run as a sidecar.
    Sidecar(Settings),
    /// Run as an ephemeral container attached to a pod.
    Attached(Settings),
    /// Run as the agent of a node, for the pods there.
    Node(Settings),
    /// Capture one target. Reads the request from stdin and writes events to stdout.
    #[command(hide = true)]
    Worker,
    /// Print what only a process's own user may read of it.
    #[command(hide = true)]
    Inspect {
        /// PID of the process.
        #[arg(long)]
        pid: i32,
        /// Print its runtime and what can be captured of it as well.
        #[arg(long)]
        sight: bool,
    },
}

fn main() -> ExitCode {
    log();
    // Whatever runs out of memory, the agent goes before the app. Only possible while the process is dumpable.
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "1000") {
        tracing::warn!(%error, "failed to raise the OOM score; the app may be killed before the agent");
    }
    // No other process may read the token, environment and memory, not even one with the same user id.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "failed to make the process undumpable; other processes of its user can read its memory");
    }
    let result = match Command::parse() {
        Command::Worker => return worker::main(),
        Command::Sidecar(settings) => supervisor::run(settings, AgentMode::Sidecar),
        Command::Attached(settings) => supervisor::run(settings, AgentMode::Ephemeral),
        Command::Node(settings) => supervisor::run(settings, AgentMode::Node),
        Command::Inspect { pid, sight } => {
            inspect::main(pid, sight).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
    };
    result.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}

/// JSON lines on stderr; `FLEETPROF_LOG` is a level, or levels by module such as
/// `info,fleetprof_agent=debug`.
fn log() {
    let default = || {
        Targets::new()
            .with_default(tracing::Level::INFO)
            .with_targets([("py_spy", tracing::Level::ERROR), ("remoteprocess", tracing::Level::ERROR)])
    };
    let targets =
        std::env::var("FLEETPROF_LOG").ok().and_then(|l| l.parse::<Targets>().ok()).unwrap_or_else(default);
    let lines = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(targets).with(lines).init();
}
