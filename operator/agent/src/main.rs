//! The binary `fleetprof-agent`: what waits in every pod. It starts `fleetprof-worker`, beside it, for captures.

use std::process::ExitCode;

use clap::Parser;
use fleetprof_agent::start;
use fleetprof_agent::supervisor::inspect::{self, Wanted};
use fleetprof_agent::supervisor::{self, Settings};
use fleetprof_crds::wire::AgentMode;

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
    /// Print what only a process's own user may read of it.
    #[command(hide = true)]
    Inspect {
        /// PID of the process.
        #[arg(long)]
        pid: i32,
        /// Print its runtime and what can be captured of it as well.
        #[arg(long)]
        sight: bool,
        /// Print throttling, pressure and threads of its container as well.
        #[arg(long)]
        counters: bool,
    },
}

fn main() -> ExitCode {
    start::hold_little();
    start::prepare();
    let result = match Command::parse() {
        Command::Sidecar(settings) => supervisor::run(settings, AgentMode::Sidecar),
        Command::Attached(settings) => supervisor::run(settings, AgentMode::Ephemeral),
        Command::Node(settings) => supervisor::run(settings, AgentMode::Node),
        Command::Inspect { pid, sight, counters } => {
            inspect::main(pid, Wanted { sight, counters }).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
    };
    result.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}
