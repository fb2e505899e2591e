//! The binary `fleetprof-worker`: captures one target. Reads the request from stdin and writes events to stdout.
//!
//! The agent starts it for each capture. It is a program of its own, so that the agent, which waits in every pod,
//! holds nothing of what captures.

use std::process::ExitCode;

use fleetprof_agent::capture::worker;
use fleetprof_agent::start;

fn main() -> ExitCode {
    start::prepare();
    worker::main()
}
