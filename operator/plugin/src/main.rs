//! `kubectl fleetprof`: profiles apps, and reads sessions, profiles and verdicts, with the caller's own
//! rights.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleetprof_plugin::run(std::env::args_os().collect())
}
