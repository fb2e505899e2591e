//! The plugin's effects: what asks the API server with the caller's rights, and prints what it answers.
//!
//! ```text
//! cli ─► a module for each command ─► cluster (kubeconfig, proxies, credentials) ─► API server
//!                                └──► output (stdout: data; stderr: everything else) ─► exit
//! ```

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::Builder;

mod cli;
mod cluster;
mod exit;
mod flags;
mod lines;
mod output;
mod paths;
mod proxy;
mod refusal;
mod sessions;
mod table;

use cli::{Cli, Verb};
use cluster::Cluster;
use exit::{Exit, Failure};

/// Runs the command of these arguments, the first of which is the program's name.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Data }.into();
        }
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("error: the async runtime cannot be started: {error}"));
            return Exit::Error.into();
        }
    };
    let ended = runtime.block_on(Box::pin(command(&cli)));
    // A prompt may still wait for its answer.
    runtime.shutdown_background();
    ended
        .unwrap_or_else(|failure| {
            if !failure.to_string().is_empty() {
                output::note(&format!("error: {failure}"));
            }
            failure.exit()
        })
        .into()
}

async fn command(cli: &Cli) -> Result<Exit, Failure> {
    let cluster = Cluster::open(&cli.flags).await?;
    match &cli.verb {
        Verb::Sessions(args) => sessions::run(&cluster, args).await,
    }
}
