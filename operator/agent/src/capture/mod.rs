//! How is one target captured?
//!
//! ```text
//!                                processes  sight, kinds
//! request (stdin) ─► worker ─► container ─► attach ─► collectors: python (own reader, py-spy) ─┐
//!                      │                                          native (perf, else ptrace) ──┤ stacks
//!                      └─ limits, watchdog, signals                                            ▼
//! events (stdout) ◄──────────────────────── slices: profiles of 10 to 15 s, <kind>-<seq>.pb.gz
//! ```
//! One worker process captures one container, so that a crash or a hang in a collector can hurt neither the
//! agent nor the target. Where the container has processes of several users, it starts a worker for each. Everything read from a target is hostile: sizes are bounded.

mod attach;
pub mod collector;
mod container;
mod cpu_stacks;
mod cpu_time;
pub mod dotnet;
mod elsewhere;
mod exports;
pub mod findings;
pub mod go;
mod held;
pub mod jvm;
mod kernel_threads;
mod limits;
mod looks;
mod member;
mod members;
mod memory;
mod named_stacks;
mod native;
mod node;
mod php;
mod process_names;
pub mod protocol;
mod python;
mod recording;
mod room;
pub mod ruby;
pub mod runtime;
mod schedule;
mod session;
pub mod sight;
pub mod slices;
mod target_socket;
mod thread_ids;
mod threads_wall;
pub mod undo;
mod users;
mod variables;
pub mod verdict;
mod wall;
pub mod worker;
