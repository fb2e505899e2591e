//! How many connections does each server take, of all and of one peer?

use prometheus_client::encoding::EncodeLabelValue;

use super::{ConnectionMetrics, Patience};
use crate::gateway::MAX_AGENTS;

/// Files that the process needs beside the gateway's connections: 4,096 places of the read API, a thousand of
/// alerts and health, and results, logs and the API server's watches.
const OTHER_FILES: u64 = 6_144;

/// Bytes of a connection that is idle or polls: half of what the load test of the gateway measured for an
/// agent, which has two.
const CONNECTION_BYTES: u64 = 32 << 10;

/// A server of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the names are label values")]
pub enum Server {
    /// Agents.
    gateway,
    /// The API server, for people who read profiles.
    read_api,
    /// Alertmanager.
    alerts,
    /// The API server, for admission.
    webhook,
    /// The API server, while nobody leads.
    understudy,
    /// The kubelet and Prometheus.
    health,
}

impl Server {
    /// Connections of all, and of one peer ([`super::Network`]).
    ///
    /// | | all | one peer | why that many of one peer |
    /// |---|---|---|---|
    /// | gateway | 100,000: two of each agent | 1,024 | two of each of the 500 pods that a node has at most (110 by default), when the CNI masks them with the node's address |
    /// | API servers | 2,048 to 4,096 | 256 | an API server uses a handful, each for 256 requests at a time; several may come through one tunnel |
    /// | alerts, health | 512 | 64 | an Alertmanager, a Prometheus and the kubelet use a handful |
    ///
    /// So one pod takes an eighth of a server's places at most. A connection that is idle or polls takes 32
    /// KiB (2,000 agents, debug build): 3 GiB for all places of the gateway, which has as many as half of the
    /// memory limit is enough for; 64 MiB of the webhook's 128.
    const fn places(self) -> (u32, u32) {
        match self {
            Self::gateway => (2 * MAX_AGENTS as u32, 1_024),
            Self::read_api => (4_096, 256),
            Self::webhook | Self::understudy => (2_048, 256),
            Self::alerts | Self::health => (512, 64),
        }
    }
}

/// What a server allows its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Which server it is.
    pub server: Server,
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: u32,
    /// Connections of one IPv4 address or IPv6 /64 at a time; more are hung up on.
    pub per_peer: u32,
    /// How long they may stay.
    pub patience: Patience,
    /// Where it is counted.
    pub metrics: ConnectionMetrics,
}

impl Limits {
    /// The limits of a server.
    #[must_use]
    pub fn of(server: Server, metrics: ConnectionMetrics) -> Self {
        let (connections, per_peer) = server.places();
        Self { server, connections, per_peer, patience: Patience::default(), metrics }
    }

    /// No more connections than the process may have `files` open, and than half of its `memory` limit is
    /// enough for: a process without files can neither store nor watch, and one without memory is killed.
    #[must_use]
    pub fn within(mut self, files: u64, memory: Option<u64>) -> Self {
        let affordable = affordable(self.connections, files, memory);
        if affordable < self.connections {
            tracing::info!(
                files,
                memory,
                connections = affordable,
                wanted = self.connections,
                "as many connections are taken as files and memory are enough for; the memory limit of the \
                 container raises them"
            );
        }
        self.connections = affordable;
        self
    }
}

fn affordable(wanted: u32, files: u64, memory: Option<u64>) -> u32 {
    // With very few, half of them.
    let files = files.saturating_sub(OTHER_FILES).max(files / 2);
    let memory = memory.map_or(u64::MAX, |bytes| bytes / 2 / CONNECTION_BYTES);
    wanted.min(u32::try_from(files.min(memory)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_and_memory_for_the_rest() {
        let cases = [
            (100_000, 1_048_576, None, 100_000),
            (100_000, u64::MAX, None, 100_000),
            (100_000, 65_536, None, 59_392),
            (100_000, 1_024, None, 512),
            (512, 1_048_576, Some(512 << 20), 512),
            (100_000, 1_048_576, Some(512 << 20), 8_192),
            (100_000, 1_048_576, Some(8 << 30), 100_000),
        ];
        for (wanted, files, memory, connections) in cases {
            assert_eq!(affordable(wanted, files, memory), connections, "{wanted} {files} {memory:?}");
        }
    }

    #[test]
    fn every_agent_finds_a_place_and_nobody_takes_them_all() {
        assert_eq!(Server::gateway.places().0 as usize, 2 * MAX_AGENTS);
        for server in [
            Server::gateway,
            Server::read_api,
            Server::alerts,
            Server::webhook,
            Server::understudy,
            Server::health,
        ] {
            let (all, one) = server.places();
            assert!(one * 8 <= all, "{server:?}");
        }
    }
}
