//! How often is an unchanged revision called slower, and a slower one found? Fleets are simulated, so the
//! truth is known; `real.rs` compares programs that really ran.
//!
//! `make soak` prints the tables of `docs/figures.md`.

#![allow(clippy::expect_used)]

mod figures;
mod fleet;
mod plain;
mod random;
mod real;
mod rollouts;
