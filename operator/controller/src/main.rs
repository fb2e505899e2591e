//! `fleetprof-operator run` controls profiling; `fleetprof-operator webhook` injects agents into new pods.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fleetprof_operator::settings::RunSettings;
use fleetprof_operator::{run, server, webhook};
use tokio::runtime::Builder;
use tracing_subscriber::EnvFilter;

/// A request of the webhook is hundreds of small allocations, and the C library's way with them is slow in a
/// static binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Controls profiling of a fleet of Kubernetes workloads.
#[derive(Parser)]
#[command(name = "fleetprof-operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What is logged, such as `info` or `fleetprof_operator=debug,info`.
    #[arg(long, env = "FLEETPROF_LOG", default_value = "info", global = true)]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    /// Controllers, gateway for agents, results and their API; one replica leads.
    Run(RunSettings),
    /// The admission webhook; any number of replicas.
    Webhook(webhook::WebhookArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(EnvFilter::new(&arguments.log))
        .with_writer(std::io::stderr)
        .init();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    server::raise_files();
    let runtime = match runtime(&arguments.command).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime could be started");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Run(settings) => Box::pin(run::run(settings)).await,
            Command::Webhook(args) => webhook::run(args).await,
        }
    });
    // Blocking work on the results volume must not hold a replica that lost its lease.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped");
            ExitCode::FAILURE
        }
    }
}

/// A request of the webhook is some ten microseconds of work and never waits: to wake a second thread for it
/// would cost a third more.
fn runtime(command: &Command) -> Builder {
    match command {
        Command::Run(_) => Builder::new_multi_thread(),
        Command::Webhook(_) => Builder::new_current_thread(),
    }
}
