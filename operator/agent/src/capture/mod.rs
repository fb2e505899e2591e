//! How is one target captured?
//!
//! ```text
//! request (stdin) ─► worker ─► runtime ─► python (py-spy) ──────────────┐
//!                      │                  native (perf, else ptrace) ───┤ stacks
//!                      └─ limits, watchdog, signals                     ▼
//! events (stdout) ◄──────────────── slices: profiles of 10 to 15 s, <kind>-<seq>.pb.gz
//! ```
//! One worker process captures one target with one collector, so that a crash or a hang in a collector
//! can hurt neither the agent nor the target. Everything read from a target is hostile: sizes are bounded.

mod cpu_time;
mod limits;
mod native;
pub mod protocol;
mod python;
pub mod runtime;
mod schedule;
mod session;
mod slices;
pub mod worker;

use fleetprof_crds::ProfileKind;

/// What the collectors capture.
pub const KINDS: &[ProfileKind] = &[ProfileKind::Cpu];
