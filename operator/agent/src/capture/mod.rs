//! How is one target captured?
//!
//! ```text
//!                                processes
//! request (stdin) ─► worker ─► container ─► runtime ─► python (py-spy) ──────────────┐
//!                      │                             native (perf, else ptrace) ───┤ stacks
//!                      └─ limits, watchdog, signals                                ▼
//! events (stdout) ◄──────────────── slices: profiles of 10 to 15 s, <kind>-<seq>.pb.gz
//! ```
//! One worker process captures one container, so that a crash or a hang in a collector
//! can hurt neither the agent nor the target. Everything read from a target is hostile: sizes are bounded.

mod attach;
mod container;
mod cpu_time;
mod limits;
mod members;
mod native;
mod process_names;
pub mod protocol;
mod python;
pub mod runtime;
mod schedule;
mod session;
mod slices;
mod verdict;
pub mod worker;

use fleetprof_crds::ProfileKind;

/// What the collectors capture.
pub const KINDS: &[ProfileKind] = &[ProfileKind::Cpu];
