//! Does a worker find what a real target spends its time on, under the rights it really gets, and leave the
//! target well?
//!
//! The tests compile their targets with gcc, Go, javac, mcs and erlc (`tests/targets.sh`, `tests/dotnet.sh`
//! and `tests/csharp.sh` install what is missing), and read the slices with `go tool pprof`. Those that
//! change users need root.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test says by a panic what is not so")]

mod container;
mod dotnet;
mod dotnet_lines;
mod erlang;
mod go;
mod held;
mod jvm;
mod native;
mod node;
mod php;
mod python;
mod ruby;
mod safety;
mod symbols;
mod tasks;
mod users;
mod wall;
mod wall_of_runtimes;
mod worker;
