//! How many connections does each server of the operator take, and what do they take of its memory?
//!
//! Half of the memory limit is for connections. A caller that has proven nothing may take [`Head`]'s worst case
//! of it with each, 198 KiB; one that is served and idle or polls takes 32 KiB. So few of the former are
//! admitted, and what is left is for authenticated callers:
//!
//! | server | proven by | unproven, of one network | proven, of one |
//! |---|---|---|---|
//! | gateway | a pod's token or credential | an eighth of the memory for connections; a quarter of them | two of each agent that the rest of the memory is enough for, at most 100,000; 16 of a pod, which may have an agent for each container |
//! | read API | the front proxy's certificate | 64, 16 (handshakes) | 256: an API server uses a handful |
//! | its standby | – | 64, 16 | – |
//! | webhook | an admission review in the last 10 minutes | 64, 16 | 128, 64 |
//! | alerts | token or certificate, also in the last 10 minutes | 32, 8 | 32, 16 |
//! | health | – | 32, 8 | – |
//!
//! Networks that are masqueraded count as one, such as a node with its pods: the agents of a node connect one
//! after the other then.

use crate::gateway::MAX_AGENTS;
use crate::server::{ConnectionMetrics, Head, Limits, Share};

/// Bytes of a connection that is idle or polls: half of what the load test of the gateway measures for an agent,
/// which has two.
const CONNECTION_BYTES: u64 = 32 << 10;
/// Files that the process needs beside the gateway's connections: those of the other servers, and results, logs
/// and the API server's watches.
const OTHER_FILES: u64 = 4_096;
/// The gateway's connections without proof are at most so many, whatever the memory.
const STRANGERS: u64 = 512;

const AGENTS: u32 = 2 * MAX_AGENTS as u32;
/// Connections of one pod.
const OF_POD: u32 = 16;

/// For agents: as many as `files` that may be open, and half of the `memory` limit, are enough for.
#[must_use]
pub fn gateway(metrics: ConnectionMetrics, files: u64, memory: Option<u64>) -> Limits {
    let beside = [read_api(metrics.clone()), alerts(metrics.clone()), health(metrics.clone())];
    let beside: u64 = beside.iter().map(planned).sum();
    let (unproven, agents) = split(memory, beside, left_of(files));
    if agents < AGENTS {
        tracing::info!(
            server = "gateway",
            files,
            memory,
            connections = agents,
            wanted = AGENTS,
            "connection limit reduced by RLIMIT_NOFILE or memory; raise the memory limit of the container for \
             more"
        );
    }
    Limits {
        unproven: Share { all: unproven, each: unproven.div_ceil(4) },
        ..Limits::new("gateway", (agents, OF_POD), metrics)
    }
}

/// How many agents the gateway's connections are enough for.
#[must_use]
pub fn agents(gateway: &Limits) -> usize {
    usize::try_from(gateway.proven.all / 2).map_or(MAX_AGENTS, |agents| agents.min(MAX_AGENTS))
}

/// For the API server, which passes on reads of profiles. It names its caller in headers, one for each group.
#[must_use]
pub fn read_api(metrics: ConnectionMetrics) -> Limits {
    Limits {
        unproven: Share { all: 64, each: 16 },
        certified: true,
        head: Head { bytes: 64 << 10, headers: 1_024 },
        ..Limits::new("read_api", (256, 256), metrics)
    }
}

/// For Alertmanager.
#[must_use]
pub fn alerts(metrics: ConnectionMetrics) -> Limits {
    Limits {
        unproven: Share { all: 32, each: 8 },
        remembers: true,
        ..Limits::new("alerts", (32, 16), metrics)
    }
}

/// For the API server, for admission.
#[must_use]
pub fn webhook(metrics: ConnectionMetrics) -> Limits {
    Limits {
        unproven: Share { all: 64, each: 16 },
        remembers: true,
        ..Limits::new("webhook", (128, 64), metrics)
    }
}

/// For the API server, while no leader serves the read API.
#[must_use]
pub fn read_api_standby(metrics: ConnectionMetrics) -> Limits {
    Limits::new("read_api_standby", (64, 16), metrics)
}

/// For the kubelet and Prometheus.
#[must_use]
pub fn health(metrics: ConnectionMetrics) -> Limits {
    Limits::new("health", (32, 8), metrics)
}

/// What the connections of a server take at most: those without proof by their settings, the others as usual.
fn planned(limits: &Limits) -> u64 {
    limits.worst_of_unproven() + u64::from(limits.proven.all) * CONNECTION_BYTES
}

/// How many connections without proof, and how many of agents, `memory` and `files` are enough for.
fn split(memory: Option<u64>, beside: u64, files: u64) -> (u32, u32) {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let Some(half) = memory.map(|bytes| bytes / 2) else {
        return (number(STRANGERS.min(files / 2)), number(files).min(AGENTS));
    };
    let worst = Head::default().worst();
    let strangers = (half / 8 / worst).clamp(16, STRANGERS).min(files / 2);
    let agents = half.saturating_sub(beside + strangers * worst) / CONNECTION_BYTES;
    (number(strangers), number(agents.min(files)).clamp(64, AGENTS))
}

/// A process without files can neither store nor watch; with very few files, half of them are for agents.
fn left_of(files: u64) -> u64 {
    files.saturating_sub(OTHER_FILES).max(files / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn metrics() -> ConnectionMetrics {
        ConnectionMetrics::default()
    }

    #[test]
    fn the_gateway_leaves_files_for_the_rest() {
        for (files, left) in [(65_536, 61_440), (1_024, 512), (1_048_576, 1_044_480)] {
            assert_eq!(left_of(files), left, "{files}");
        }
    }

    #[test]
    fn connections_fit_into_files_and_half_of_the_memory() {
        let cases = [
            (1 << 20, None, (512, 100_000)),
            (65_536, None, (512, 61_440)),
            (1 << 20, Some(512), (165, 5_977)),
            (1 << 20, Some(1024), (330, 13_148)),
            (1 << 20, Some(16 << 10), (512, 100_000)),
            (1_024, Some(512), (165, 512)),
        ];
        for (files, memory, wanted) in cases {
            let limits = gateway(metrics(), files, memory.map(|mib| mib * MIB));
            assert_eq!((limits.unproven.all, limits.proven.all), wanted, "{files} {memory:?}");
            assert_eq!(agents(&limits), usize::try_from(wanted.1 / 2).unwrap(), "each has two");
        }
    }

    #[test]
    fn what_callers_can_make_a_process_hold_fits_half_of_its_memory() {
        for memory in [256, 512, 1024, 8192] {
            let operator =
                [gateway(metrics(), 1 << 20, Some(memory * MIB)), read_api(metrics()), alerts(metrics())];
            let planned: u64 = operator.iter().chain([&health(metrics())]).map(super::planned).sum();
            assert!(planned <= memory * MIB / 2, "{} of {memory} MiB", planned / MIB);
        }
        let webhook = [webhook(metrics()), read_api_standby(metrics()), health(metrics())];
        let worst: u64 = webhook.iter().map(Limits::worst_of_unproven).sum();
        assert!(worst <= 64 * MIB, "{} MiB", worst / MIB);
    }

    #[test]
    fn no_network_takes_more_than_a_quarter_of_the_connections_without_proof() {
        for limits in [
            gateway(metrics(), 1 << 20, Some(512 * MIB)),
            read_api(metrics()),
            alerts(metrics()),
            webhook(metrics()),
            read_api_standby(metrics()),
            health(metrics()),
        ] {
            let Share { all, each } = limits.unproven;
            assert!(each <= all.div_ceil(4), "{}: {each} of {all}", limits.server);
        }
    }
}
