//! What does a server allow its peers?

use super::{ConnectionMetrics, Timeouts};

/// Bytes of a connection that is idle or polls: half of what the load test of the gateway measured for an
/// agent, which has two.
const CONNECTION_BYTES: u64 = 32 << 10;

/// What a server allows its peers.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Name of the server, as metrics and logs show it.
    pub server: &'static str,
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: u32,
    /// Connections of one IPv4 address or IPv6 /64 at a time; more are closed at once.
    pub per_peer: u32,
    /// How long they may stay.
    pub timeouts: Timeouts,
    /// Where it is counted.
    pub metrics: ConnectionMetrics,
}

impl Limits {
    /// Limits with the usual timeouts.
    #[must_use]
    pub fn new(
        server: &'static str,
        (connections, per_peer): (u32, u32),
        metrics: ConnectionMetrics,
    ) -> Self {
        Self { server, connections, per_peer, timeouts: Timeouts::default(), metrics }
    }

    /// No more connections than `files` may be open for them, and than half of the process's `memory` limit
    /// is enough for: a process without memory is killed.
    #[must_use]
    pub fn within(mut self, files: u64, memory: Option<u64>) -> Self {
        let affordable = affordable(self.connections, files, memory);
        if affordable < self.connections {
            tracing::info!(
                server = self.server,
                files,
                memory,
                connections = affordable,
                wanted = self.connections,
                "connection limit reduced by RLIMIT_NOFILE or memory; raise the memory limit of the container \
                 for more"
            );
        }
        self.connections = affordable;
        self
    }
}

fn affordable(wanted: u32, files: u64, memory: Option<u64>) -> u32 {
    let memory = memory.map_or(u64::MAX, |bytes| bytes / 2 / CONNECTION_BYTES);
    wanted.min(u32::try_from(files.min(memory)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_files_and_half_of_the_memory() {
        let cases = [
            (100_000, u64::MAX, None, 100_000),
            (100_000, 59_392, None, 59_392),
            (512, 1_048_576, Some(512 << 20), 512),
            (100_000, 1_048_576, Some(512 << 20), 8_192),
            (100_000, 1_048_576, Some(8 << 30), 100_000),
        ];
        for (wanted, files, memory, connections) in cases {
            assert_eq!(affordable(wanted, files, memory), connections, "{wanted} {files} {memory:?}");
        }
    }
}
