//! The agent: a supervisor that takes orders, and one worker process per target and collector.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod capture;
pub mod proc;
pub mod supervisor;
