//! `kubectl fleetprof symbols`: which functions have no names, and what is uploaded to name them?

mod files;
mod kept;
mod missing;
mod send;
mod upload;

use clap::{Args, Subcommand};
use fleetprof_core::text::printable;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::exit::{Exit, Failure};
use crate::output;

/// What to do.
#[derive(Args, Debug)]
pub(crate) struct SymbolsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List the files whose functions have no names in the profiles of sessions.
    Missing(missing::MissingArgs),
    /// Upload files with symbols, by which later captures of all namespaces are named.
    Upload(upload::UploadArgs),
    /// List the files that were uploaded.
    #[command(visible_alias = "list")]
    Ls(kept::LsArgs),
    /// Delete files that were uploaded.
    Rm(kept::RmArgs),
}

/// Does it.
pub(crate) async fn run(cluster: &Cluster, args: &SymbolsArgs) -> Result<Exit, Failure> {
    match &args.verb {
        Verb::Missing(args) => missing::run(cluster, args).await,
        Verb::Upload(args) => upload::run(cluster, args).await,
        Verb::Ls(args) => kept::list(cluster, args).await,
        Verb::Rm(args) => kept::remove(cluster, args).await,
    }
}

/// Says what the operator warns of in an answer.
fn warn(answer: &Value) {
    if let Some(warning) = answer["warning"].as_str() {
        output::note(&format!("warning: {}", printable(warning)));
    }
}

/// A size for people.
#[allow(clippy::cast_precision_loss)] // One decimal place is shown.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_their_own_unit() {
        for (bytes, said) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (12 << 20, "12.0 MiB"), (5 << 29, "2.5 GiB")]
        {
            assert_eq!(size(bytes), said);
        }
    }
}
