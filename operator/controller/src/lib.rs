//! The operator's effects: what watches the cluster, talks to agents, keeps results and answers admission.
//!
//! ```text
//! run:      leader ─► policies ─► ProfileSession ─► sessions ─► agents ◄── gateway ◄── the agents in pods
//!                                                     └───────► results ◄── data_api ◄── kubectl
//! webhook:  pods at CREATE ─► inject (fleetprof-core) ─► JSON patch
//! ```

pub mod agents;
pub mod client;
pub mod configuration;
mod create;
pub mod data_api;
pub mod destinations;
pub mod environment;
pub mod events;
pub mod gateway;
pub mod health;
#[cfg(test)]
mod hostile;
pub mod leader;
pub mod listeners;
pub mod logging;
pub mod metrics;
pub mod notifications;
mod outgoing;
pub mod panics;
pub mod permission;
mod permits;
pub mod policies;
pub mod regressions;
pub mod results;
pub mod run;
pub mod server;
pub mod sessions;
pub mod settings;
mod sha256;
pub mod signals;
pub mod symbols;
pub mod tickets;
pub mod tls;
pub mod triggers;
pub mod watched;
pub mod webhook;
