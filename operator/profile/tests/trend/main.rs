//! How often is a workload called growing in which nothing grows, and a leak found? Fleets are simulated, so the
//! truth is known.
//!
//! `make soak` prints the tables of `docs/figures.md`.

#![allow(clippy::expect_used)]

mod figures;
#[allow(dead_code, reason = "rollouts use the rest of it")]
#[path = "../verdict/fleet.rs"]
mod fleet;
mod life;
mod looks;
#[path = "../verdict/random.rs"]
mod random;
