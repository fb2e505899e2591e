//! `fleetprof-operator run` controls profiling; `fleetprof-operator webhook` injects agents into new pods.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use fleetprof_operator::settings::RunSettings;
use fleetprof_operator::{environment, logging, run, server, symbols, webhook};
use tokio::runtime::Builder;

/// A webhook request makes hundreds of small allocations, which are slow with the C library of a static
/// binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Kubernetes operator for profiling a fleet of workloads.
#[derive(Parser)]
#[command(name = "fleetprof-operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Log filter, such as `info` or `fleetprof_operator=debug,info`.
    #[arg(long, env = "FLEETPROF_LOG", default_value = "info", global = true)]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    /// Run the controllers, the agent gateway, and the read API. One replica leads.
    Run(Box<RunSettings>),
    /// Run the admission webhook. All replicas are active.
    Webhook(Box<webhook::WebhookArgs>),
    /// Name addresses of one file: what `run` starts to read a file that may be malformed.
    #[command(hide = true)]
    Symbolize(symbols::WorkerArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Symbolize(args) = arguments.command {
        return symbols::main(args);
    }
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(logging::filter(&arguments.log))
        .with_writer(std::io::stderr)
        .init();
    warn_of_unread_settings();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    server::raise_files();
    let runtime = match runtime(&arguments.command).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "failed to start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Run(settings) => Box::pin(run::run(*settings)).await,
            Command::Webhook(args) => Box::pin(webhook::run(*args)).await,
            Command::Symbolize(_) => Ok(()),
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

fn warn_of_unread_settings() {
    let variables = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    for warning in environment::unread(&Arguments::command(), variables) {
        tracing::warn!("{warning}");
    }
}

/// A webhook request takes some ten microseconds and never waits: waking a second thread would cost a third
/// more.
fn runtime(command: &Command) -> Builder {
    match command {
        Command::Run(_) => Builder::new_multi_thread(),
        Command::Webhook(_) | Command::Symbolize(_) => Builder::new_current_thread(),
    }
}
