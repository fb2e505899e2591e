//! The plugin's effects: what asks the API server with the caller's rights, and prints what it answers.
//!
//! ```text
//! cli ─► a module for each command ─► cluster (kubeconfig, proxies, credentials) ─► API server
//!                                └──► output (stdout: data; stderr: everything else) ─► exit
//! ```

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tokio::runtime::Builder;

mod age;
mod apps;
mod bound;
mod cli;
mod cluster;
mod compare;
mod completion;
mod console;
mod doctor;
mod ended;
mod exit;
mod flags;
mod follow;
mod get;
mod kubeconfig;
mod lines;
mod man;
mod now;
mod output;
mod paths;
mod policies;
mod proxy;
mod read;
mod refusal;
mod selector;
mod sessions;
mod symbols;
mod table;
mod target;

use cli::{Cli, Verb};
use cluster::Cluster;
use exit::{Exit, Failure};

/// Runs the command of these arguments, the first of which is the program's name.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    if completion::is_asked(&arguments) {
        return on_runtime(completion::answer(&Cli::command(), arguments)).into();
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Data }.into();
        }
    };
    on_runtime(Box::pin(command(&cli))).into()
}

fn on_runtime(command: impl Future<Output = Result<Exit, Failure>>) -> Exit {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("error: the async runtime cannot be started: {error}"));
            return Exit::Error;
        }
    };
    let ended = runtime.block_on(command);
    // A prompt may still wait for its answer.
    runtime.shutdown_background();
    ended.unwrap_or_else(|failure| {
        if !failure.to_string().is_empty() {
            output::note(&format!("error: {failure}"));
        }
        failure.exit()
    })
}

async fn command(cli: &Cli) -> Result<Exit, Failure> {
    let ended = Box::pin(verb(cli)).await;
    // As with kubectl diff, a gate that could not look is told from one that found something.
    match &cli.verb {
        Verb::Diff(_) | Verb::Regress(_) => ended.map_err(|failure| failure.with(Exit::Usage)),
        _ => ended,
    }
}

async fn verb(cli: &Cli) -> Result<Exit, Failure> {
    let cluster = || Cluster::open(&cli.flags);
    match &cli.verb {
        Verb::Now(args) => {
            let terminal = std::io::stdout().is_terminal();
            now::run(&cluster().await?, &cli.flags, args, terminal).await
        }
        Verb::Apps(args) => apps::run(&cluster().await?, args).await,
        Verb::Sessions(args) => sessions::run(&cluster().await?, args).await,
        Verb::Get(args) => get::run(&cluster().await?, args).await,
        Verb::Top(args) => read::top(&cluster().await?, args).await,
        Verb::Flame(args) => read::flame(&cluster().await?, args).await,
        Verb::Diff(args) => compare::diff(&cluster().await?, args).await,
        Verb::Regress(args) => compare::regress(&cluster().await?, args).await,
        Verb::Symbols(args) => symbols::run(&cluster().await?, args).await,
        Verb::Doctor(args) => doctor::run(&cluster().await?, args).await,
        Verb::Completion(args) => completion::run(args, Cli::command()),
        Verb::Man(args) => man::run(args, Cli::command()),
        Verb::Console(args) => console::run(cluster().await?, &cli.flags, args).await,
    }
}
