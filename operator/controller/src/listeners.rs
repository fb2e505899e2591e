//! How many connections does each server of the operator take, of all and of one peer?
//!
//! | server | all | one peer | why that many of one peer |
//! |---|---|---|---|
//! | gateway | 100,000: two of each agent | 1,024 | two of each of the 500 pods that a node has at most (110 by default), when the CNI masks them with the node's address |
//! | API servers | 2,048 to 4,096 | 256 | an API server uses a handful, each for 256 requests at a time; several may come through one tunnel |
//! | alerts, health | 512 | 64 | an Alertmanager, a Prometheus and the kubelet use a handful |
//!
//! So one pod takes an eighth of a server's connections at most. A connection that is idle or polls takes 32
//! KiB (2,000 agents, debug build): 3 GiB for all connections of the gateway, which accepts as many as half of
//! the memory limit is enough for; 64 MiB of the webhook's 128.

use crate::gateway::MAX_AGENTS;
use crate::server::{ConnectionMetrics, Limits};

/// Files that the process needs beside the gateway's connections: 4,096 connections of the read API, a
/// thousand of alerts and health, and results, logs and the API server's watches.
const OTHER_FILES: u64 = 6_144;

const GATEWAY: (u32, u32) = (2 * MAX_AGENTS as u32, 1_024);
const READ_API: (u32, u32) = (4_096, 256);
const WEBHOOK: (u32, u32) = (2_048, 256);
const FEW: (u32, u32) = (512, 64);

/// For agents: as many as `files` that may be open, and half of the `memory` limit, are enough for.
#[must_use]
pub fn gateway(metrics: ConnectionMetrics, files: u64, memory: Option<u64>) -> Limits {
    Limits::new("gateway", GATEWAY, metrics).within(left_of(files), memory)
}

/// For the API server, which passes on reads of profiles.
#[must_use]
pub fn read_api(metrics: ConnectionMetrics) -> Limits {
    Limits::new("read_api", READ_API, metrics)
}

/// For Alertmanager.
#[must_use]
pub fn alerts(metrics: ConnectionMetrics) -> Limits {
    Limits::new("alerts", FEW, metrics)
}

/// For the API server, for admission.
#[must_use]
pub fn webhook(metrics: ConnectionMetrics) -> Limits {
    Limits::new("webhook", WEBHOOK, metrics)
}

/// For the API server, while no leader serves the read API.
#[must_use]
pub fn read_api_standby(metrics: ConnectionMetrics) -> Limits {
    Limits::new("read_api_standby", WEBHOOK, metrics)
}

/// For the kubelet and Prometheus.
#[must_use]
pub fn health(metrics: ConnectionMetrics) -> Limits {
    Limits::new("health", FEW, metrics)
}

/// A process without files can neither store nor watch; with very few files, half of them are for agents.
fn left_of(files: u64) -> u64 {
    files.saturating_sub(OTHER_FILES).max(files / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_leaves_files_for_the_rest() {
        for (files, left) in [(65_536, 59_392), (1_024, 512), (1_048_576, 1_042_432)] {
            assert_eq!(left_of(files), left, "{files}");
        }
    }

    #[test]
    fn every_agent_can_connect_and_no_peer_takes_more_than_an_eighth() {
        assert_eq!(GATEWAY.0 as usize, 2 * MAX_AGENTS);
        for (all, one) in [GATEWAY, READ_API, WEBHOOK, FEW] {
            assert!(one * 8 <= all, "{one} of {all}");
        }
    }
}
